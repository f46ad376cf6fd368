// SPDX-License-Identifier: MIT
// The fork server of a process pool. By StartMethod::fork it is a copy of the program; else it is a
// process that is told what it has to know, and gets the pool's table by its descriptors.
#pragma once

#include <sys/stat.h>

#include <cstring>

#include "../multiprocessing/launch.hpp"
#include "../multiprocessing/reduction.hpp"
#include "../posix/fork_server.hpp"
#include "../posix/socket_pair.hpp"
#include "pool_workers.hpp"

namespace brood::futures {

class PoolServer {
 public:
  /// `workers` are those of `table` with `settings`, for a server that is forked. Throws
  /// std::invalid_argument if the initializer can't cross, what its Serializer throws, and as
  /// posix::ForkServer or multiprocessing::launch().
  static posix::ForkServer start(const TaskTable& table, const WorkerSettings& settings,
                                 PoolWorkers& workers) {
    if (settings.start_method == multiprocessing::StartMethod::fork)
      return posix::ForkServer{workers};
    return launch(table, settings);
  }

 private:
  // What comes first in the message, as its bytes, which the archives' templates would make dear to
  // compile. The texts follow, then the initializer.
  struct Record {
    posix::CodePlace initializer;  // nowhere: there is none
    TaskTable::Extent extent;
    std::uint32_t file;  // of the table; numbers in the Reduction, as the next two
    std::uint32_t done_event;
    std::uint32_t orders;
    std::uint32_t max_tasks;
    std::uint32_t name_size;
    std::uint32_t program_name_size;
    std::uint64_t memory;
    std::uint64_t program;
  };
  static_assert(std::is_trivially_copyable_v<Record>);

  static posix::ForkServer launch(const TaskTable& table, const WorkerSettings& settings);
  static void run(serialization::Reader& in);
  static Initializer read_initializer(posix::CodePlace place, serialization::Reader& in);
  static const multiprocessing::LaunchEntry entry_;
};

inline constinit const multiprocessing::LaunchEntry PoolServer::entry_{&PoolServer::run,
                                                                       typeid(PoolServer)};

// ---------------------------------------------------------------------------------------------

inline posix::ForkServer PoolServer::launch(const TaskTable& table,
                                            const WorkerSettings& settings) {
  const Initializer& initializer = settings.initializer;
  if (initializer && initializer.entry() == nullptr)
    throw std::invalid_argument{
        "process pool: an initializer of type " + initializer.type_name() +
        " can't cross to a process that is not forked from this one: give it a function, a lambda "
        "without captures, or a Serializable function object; or use StartMethod::fork"};
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_SEQPACKET, mine, its);
  multiprocessing::Reduction reduction;
  Record record{{},
                table.extent(),
                reduction.add(table.file()),
                reduction.add(table.done_event().get()),
                reduction.add(its.get()),
                settings.max_tasks,
                static_cast<std::uint32_t>(settings.name.size()),
                static_cast<std::uint32_t>(settings.program_name.size()),
                settings.memory,
                settings.program.word()};
  std::string last;
  if (initializer) {
    record.initializer = initializer.entry()->place();
    last = initializer.dump(reduction);
  }
  std::string bytes(reinterpret_cast<const char*>(&record), sizeof record);
  bytes += settings.name;
  bytes += settings.program_name;
  bytes += last;
  // Ctrl-C must not reach the server before it has come to ignore it.
  auto process = multiprocessing::launch(settings.start_method, entry_, bytes, reduction,
                                         {.name = settings.name,
                                          .code = initializer ? initializer.code() : nullptr,
                                          .start_method = settings.start_method,
                                          .no_interrupt = true});
  return {std::move(mine), std::move(process)};
}

// In the server.
inline void PoolServer::run(serialization::Reader& in) {
  auto& reduction = multiprocessing::Reduction::of(in);
  Record record;
  std::memcpy(&record, in.read_bytes(sizeof record).data(), sizeof record);
  WorkerSettings settings;
  settings.start_method = multiprocessing::get_start_method();  // this process was told
  settings.max_tasks = record.max_tasks;
  settings.memory = static_cast<std::size_t>(record.memory);
  settings.program = posix::ProcessIdentity{record.program};
  settings.name = in.read_bytes(record.name_size);
  settings.program_name = in.read_bytes(record.program_name_size);
  TaskTable table{record.extent, reduction.take(record.file, S_IFREG),
                  posix::EventFd{reduction.take(record.done_event, 0)}};
  posix::unique_fd orders = reduction.take(record.orders, S_IFSOCK);
  posix::unique_fd program;
  try {
    program = settings.program.open();
    if (!program) return;  // it has ended
  } catch (const os::OSError& error) {
    if (!posix::means_unsupported(error.code().value())) throw;
  }
  if (record.initializer != posix::CodePlace{})
    settings.initializer = read_initializer(record.initializer, in);
  posix::CrashRecorder::prepare();
  PoolWorkers workers{table, settings};
  posix::ForkServerProcess{std::move(orders), std::move(program), workers}.run();
}

// What goes wrong is the initializer's failure: so the pool learns the reason.
inline Initializer PoolServer::read_initializer(posix::CodePlace place, serialization::Reader& in) {
  try {
    const auto* const entry = Initializer::Entry::at(place);
    if (entry == nullptr) serialization::throw_error("this is the place of no initializer");
    Initializer initializer = entry->function()(in);
    in.expect_end();
    return initializer;
  } catch (...) {
    return [error = std::current_exception()] { std::rethrow_exception(error); };
  }
}

}  // namespace brood::futures
