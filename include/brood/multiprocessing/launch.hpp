// SPDX-License-Identifier: MIT
// Runs a function of this program in a new process that is no copy of this one: it gets what it
// needs as bytes and descriptors. Process and the pools' servers are started by this.
//
// Both methods do the same: the new process is told one message, what it is to know of itself
// (preparation.hpp), the place of the function and the bytes, and is given descriptors. By
// forkserver it has them from its birth on. By spawn, and with more descriptors than go along with
// an order to the fork server, they come as a parcel by a channel, a pair of sockets.
//
// The new process   | who moves it on          | if the other one dies there
// ------------------+--------------------------+---------------------------------------------------
// is made           | the kernel; the server   | it finds its channel at the end, and ends with
//                   |                          | code 1, silently
// is told           | this process             | as above; or it has died: its exit code tells,
//                   |                          | which is 0 for none that has not read all (and a
//                   |                          | spawned one has announced that it began to)
// runs              | its function             | it runs on
#pragma once

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "../crossing.hpp"
#include "../posix/child.hpp"
#include "../posix/list.hpp"
#include "../posix/load_module.hpp"
#include "../posix/mapping.hpp"
#include "../posix/parcel.hpp"
#include "../posix/socket_pair.hpp"
#include "../posix/spawn_self.hpp"
#include "forkserver.hpp"
#include "launch_entry.hpp"
#include "preparation.hpp"
#include "process_state.hpp"
#include "reduction.hpp"
#include "start_method.hpp"

namespace brood::multiprocessing {

/// To be called as the first thing in main() of a program that starts processes by forkserver or
/// spawn. In a process that spawn has started it takes over and never returns: the function runs,
/// and std::exit() ends it. In the program itself it forks the fork server, which sees what static
/// objects have made and no more; from then on the process that has called has this child, which
/// keeps open what is open now, standard output too, and ends with it. (A program that makes itself
/// a daemon by leaving its first process loses it.) Called again, or in a child, it does nothing.
///
/// What main() does before it runs in each spawned process too. One whose main() ends without
/// having called this has not run its function: its code is 1 then, if main() gave 0, and the
/// parent prints the reason to stderr when it learns of the end. Threads of static objects should
/// not hold locks at that moment: the fork server is a copy of the thread that calls.
///
/// Throws os::OSError. Python counterpart: multiprocessing.freeze_support, there for Windows alone.
void freeze_support();

/// What a launched process is told of itself.
struct LaunchedAs {
  std::string_view name = {};  // of its current_process()
  bool daemon = false;
  const posix::List<unsigned>* identity = nullptr;  // see ProcessState; null: none
  const void* code = nullptr;  // what must be loaded there besides the entry; null: nothing
  std::optional<StartMethod> start_method = {};  // its default; unset: that of this process
  bool no_interrupt = false;                     // it begins with SIGINT blocked
};

/// Starts a process by `method`, forkserver or spawn, which calls `entry` with `bytes`, and ends
/// when that returns (code 0) or throws (code 1, printed to stderr). `descriptors` are those that
/// were collected when the bytes were written. This process is then its parent_process(); it is on
/// no list of children, and nobody waits for it at the end of the program. May be called from any
/// thread.
///
/// Returns when the process exists and has been given everything, or has ended before it had read
/// it. Throws std::runtime_error when freeze_support() has not been called, os::OSError when no
/// process can be had, ProcessError when the fork server is dead.
posix::Ref<posix::SharedChild> launch(StartMethod method, const LaunchEntry& entry,
                                      std::string_view bytes, Reduction& descriptors,
                                      const LaunchedAs& as);

// ---------------------------------------------------------------------------------------------

namespace launching {

/// What is longer goes in a file in memory, so that the message always finds room in an order and
/// in a channel: nobody waits for a process that does not read.
inline constexpr std::size_t most_in_message = std::size_t{32} << 10;
static_assert(sizeof(PreparationRecord) + most_in_message <= posix::most_told);

enum class End { by_std_exit, as_forked_child };

/// The descriptors that go along on the launch's own behalf, for as long as it takes.
struct Luggage {
  posix::unique_fd directory;
  posix::unique_fd spool;
};

inline void write_spool(int file, std::string_view bytes) {
  for (std::size_t done = 0; done != bytes.size();) {
    const ssize_t length = posix::write_some(file, bytes.data() + done, bytes.size() - done);
    if (length < 0) posix::throw_errno("store the arguments of a process");
    done += static_cast<std::size_t>(length);
  }
}

inline std::string read_spool(int file) {
  std::string bytes;
  struct stat status {};
  posix::check(::fstat(file, &status), "look at the arguments of a process");
  bytes.resize(static_cast<std::size_t>(status.st_size));
  for (std::size_t done = 0; done != bytes.size();) {
    const ssize_t length = posix::retry_on_eintr([&] {
      return ::pread(file, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    });
    if (length < 0) posix::throw_errno("read the arguments of a process");
    if (length == 0) serialization::throw_error("truncated input");
    done += static_cast<std::size_t>(length);
  }
  return bytes;
}

inline void copy_command(char (&command)[16]) {
  const posix::unique_fd file{::open("/proc/self/comm", O_RDONLY | O_CLOEXEC)};
  const ssize_t length = file ? posix::read_some(file.get(), command, sizeof command - 1) : 0;
  if (length > 0 && command[length - 1] == '\n') command[length - 1] = '\0';
}

/// The file of the library that `address` lies in; empty for the program itself, which is there.
inline std::string library_path(std::uint64_t module, const void* address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): where the kernel has begun with the program
  static const std::uint64_t program =
      posix::place_of(reinterpret_cast<const void*>(::getauxval(AT_ENTRY))).module;
  return module == program || address == nullptr ? std::string{} : posix::module_path(address);
}

/// The message.
inline std::string prepare(StartMethod method, const LaunchEntry& entry, std::string_view bytes,
                           Reduction& descriptors, const LaunchedAs& as, Luggage& luggage) {
  Processes& here = Processes::here();
  const std::string parent_name = here.self()->name();
  PreparationRecord record;
  record.entry = entry.place();
  if (as.code != nullptr) record.code_module = posix::place_of(as.code).module;
  const std::string entry_path = library_path(record.entry.module, &entry);
  const std::string code_path = library_path(record.code_module, as.code);
  record.parent = here.identity().word();
  record.start_method =
      static_cast<std::uint32_t>(as.start_method ? *as.start_method : get_start_method());
  record.is_daemon = as.daemon ? 1 : 0;
  record.orders = record.directory = record.spool = Reduction::no_descriptor;
  if (method == StartMethod::spawn) {
    copy_command(record.command);
    const int orders = ForkServer::here().orders();
    if (orders >= 0) {
      record.orders = descriptors.add(orders);
      record.server = ForkServer::here().identity().word();
    }
  } else if (!ForkServer::here().is_in_our_directory()) {
    luggage.directory = posix::unique_fd{
        posix::check(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), "open the working directory")};
    record.directory = descriptors.add(luggage.directory.get());
  }
  const std::size_t generations = as.identity == nullptr ? 0 : as.identity->size();
  record.identity = static_cast<std::uint32_t>(generations * sizeof(unsigned));
  record.name = static_cast<std::uint32_t>(as.name.size());
  record.parent_name = static_cast<std::uint32_t>(parent_name.size());
  record.entry_path = static_cast<std::uint32_t>(entry_path.size());
  record.code_path = static_cast<std::uint32_t>(code_path.size());

  std::string texts;
  if (generations != 0)
    texts.append(reinterpret_cast<const char*>(as.identity->begin()), record.identity);
  texts.append(as.name);
  texts.append(parent_name);
  texts.append(entry_path);
  texts.append(code_path);
  if (texts.size() + bytes.size() > most_in_message) {
    luggage.spool = posix::make_memory_file("brood-arguments", texts.size() + bytes.size());
    write_spool(luggage.spool.get(), texts);
    write_spool(luggage.spool.get(), bytes);
    record.spool = descriptors.add(luggage.spool.get());
  }
  std::string message{reinterpret_cast<const char*>(&record), sizeof record};
  if (luggage.spool) return message;
  message.append(texts);
  message.append(bytes);
  return message;
}

/// Takes from the texts who this process is. `is_known`: it is that already.
inline void become(PreparationTexts& texts, bool is_known) {
  const PreparationRecord& record = texts.record;
  const std::string_view numbers = texts.take(record.identity);
  const std::string_view name = texts.take(record.name);
  const std::string_view parent_name = texts.take(record.parent_name);
  if (is_known) return;
  if (record.start_method > static_cast<std::uint32_t>(StartMethod::spawn))
    serialization::throw_error("this names no start method");
  posix::List<unsigned> identity{numbers.size() / sizeof(unsigned)};
  if (!identity.empty())
    std::memcpy(identity.data(), numbers.data(), identity.size() * sizeof(unsigned));
  const posix::ProcessIdentity parent{record.parent};
  Processes::here().become(posix::make_ref<ProcessState>(std::string{name}, record.is_daemon != 0,
                                                         std::move(identity), ProcessState::nobody),
                           parent, std::string{parent_name});
  set_start_method(static_cast<StartMethod>(record.start_method), true);
}

/// Whether the fork server has become what the process is to be, before it forked it.
struct Introduction {
  bool is_done = false;
};
inline bool& is_introduced() noexcept { return posix::immortal<Introduction>().is_done; }

/// In the fork server: becomes that, if the message is whole and sound. In memory of its own that
/// costs less than in the process, where each page that is written must be copied.
inline void introduce(std::string_view told) noexcept {
  is_introduced() = false;
  if (told.empty()) return;
  try {
    PreparationTexts texts{told};
    if (texts.record.spool != Reduction::no_descriptor) return;
    become(texts, false);
    is_introduced() = true;
  } catch (const std::exception&) {  // the process will tell
  }
}

/// In the new process: everything up to the end of its function.
inline void run(std::string_view told, Reduction& descriptors, End end) {
  PreparationTexts texts{told};
  const PreparationRecord& record = texts.record;
  std::string spool;
  if (record.spool != Reduction::no_descriptor) {
    spool = read_spool(descriptors.take(record.spool, S_IFREG).get());
    texts.go_on_with(spool);
  }
  become(texts, is_introduced());
  is_introduced() = true;
  if (end == End::by_std_exit) {
    ForkServer::here().note_support();
    if (record.command[0] != '\0') ::prctl(PR_SET_NAME, record.command);
    if (record.orders != Reduction::no_descriptor)
      ForkServer::here().join(descriptors.take(record.orders, S_IFSOCK),
                              posix::ProcessIdentity{record.server});
  }
  if (record.directory != Reduction::no_descriptor) {
    auto directory = descriptors.take(record.directory);
    posix::check(::fchdir(directory.get()), "change to the parent's directory");
    directory.discard();
  }
  const std::string entry_path{texts.take(record.entry_path)};
  const std::string code_path{texts.take(record.code_path)};
  posix::load_module(record.entry.module, entry_path);
  if (record.code_module != 0) posix::load_module(record.code_module, code_path);
  const LaunchEntry* const entry = LaunchEntry::at(record.entry);
  if (entry == nullptr) serialization::throw_error("this is the place of no function");
  serialization::Reader reader{texts.rest(), &descriptors};
  entry->function()(reader);
}

[[noreturn]] inline void end_process(int code, End end) {
  if (end == End::by_std_exit) std::exit(code);
  posix::end_forked_child(code);
}

/// The life of the new process. Told nothing, it is given the channel by which it will be.
[[noreturn]] inline void live(std::string_view told, posix::List<posix::unique_fd> descriptors,
                              End end) {
  try {
    posix::Parcel parcel;
    bool is_told = true;
    if (told.empty()) {
      const posix::unique_fd channel =
          descriptors.empty() ? posix::unique_fd{} : std::move(descriptors[0]);
      is_told = posix::receive_parcel(channel.get(), parcel);
      told = parcel.bytes;
      descriptors = std::move(parcel.descriptors);
    }
    if (is_told) {
      Reduction given{std::move(descriptors)};
      launching::run(told, given, end);
      end_process(0, end);  // here: what is about to vanish need not be taken apart
    }
  } catch (...) {
    posix::flush_output();
    std::fprintf(stderr, "Process %s:\n%s\n",
                 is_introduced() ? Processes::here().self()->name().c_str() : "without a name",
                 posix::describe(std::current_exception()).c_str());
  }
  end_process(1, end);
}

/// Of a spawned process that has ended.
inline constinit const posix::EndJudge end_judge{
    [](int channel, int code) noexcept { return code >= 0 && !posix::has_announced(channel); },
    [](pid_t pid, int code) noexcept {
      std::fprintf(stderr,
                   "brood: process %d, which was to run a function of this program by spawn, has "
                   "ended by itself (code %d) before it had called freeze_support(), which has to "
                   "be the first thing in main()\n",
                   pid, code);
    }};

// As the function of a real one would.
inline void read_nothing(serialization::Reader& in) {
  in.expect_end();
  Reduction::of(in).finish();
}
inline constinit const LaunchEntry rehearsed{&read_nothing, typeid(void)};

/// In the fork server: what each of its children will do.
inline void rehearse() noexcept {
  try {
    Reduction descriptors;
    Luggage luggage;
    const std::string message =
        prepare(StartMethod::forkserver, rehearsed, {}, descriptors, {}, luggage);
    posix::List<posix::unique_fd> copies;
    for (const int descriptor : descriptors.descriptors())
      copies.push_back(posix::duplicate(descriptor));
    Reduction given{std::move(copies)};
    introduce(message);
    launching::run(message, given, End::as_forked_child);
    posix::flush_output();
  } catch (const std::exception&) {  // then the children are a little slower
  }
}

}  // namespace launching

inline void freeze_support() {
  if (posix::unique_fd channel = posix::take_spawned_channel()) {
    posix::announce(channel.get());
    posix::List<posix::unique_fd> given;
    given.push_back(std::move(channel));
    launching::live({}, std::move(given), launching::End::by_std_exit);
  }
  ForkServer& server = ForkServer::here();
  if (server.is_supported() || Processes::here().parent()) return;
  server.note_support();  // so that what it forks knows it too
  server.start({&launching::introduce,
                [](std::string_view told, posix::List<posix::unique_fd> descriptors) {
                  launching::live(told, std::move(descriptors), launching::End::as_forked_child);
                }},
               &launching::rehearse);
}

inline posix::Ref<posix::SharedChild> launch(StartMethod method, const LaunchEntry& entry,
                                             std::string_view bytes, Reduction& descriptors,
                                             const LaunchedAs& as) {
  ForkServer& server = ForkServer::here();
  if (!server.is_supported())
    throw std::runtime_error{
        "start a process by forkserver or spawn: the program has not called "
        "brood::multiprocessing::freeze_support(), which has to be the first thing in main()"};
  launching::Luggage luggage;
  const std::string message = launching::prepare(method, entry, bytes, descriptors, as, luggage);
  if (method == StartMethod::forkserver &&
      descriptors.descriptors().size() <= posix::most_descriptors_told)
    return server.fork_process(message, descriptors.descriptors(), as.no_interrupt);
  posix::unique_fd mine, its;
  posix::make_sockets(SOCK_STREAM, mine, its);
  const auto send = [&] {
    try {
      posix::send_parcel(mine.get(), message, descriptors.descriptors());
    } catch (const os::BrokenPipeError&) {  // it has ended: its exit code will tell
    }
  };
  if (method == StartMethod::forkserver) {
    posix::List<int> channel;
    channel.push_back(its.get());
    const auto child = server.fork_process({}, channel, as.no_interrupt);
    its.reset();
    try {
      send();
    } catch (...) {
      child->send_signal(SIGKILL);
      child->wait(posix::Deadline{forever});
      throw;
    }
    return child;
  }
  // Sent at once if that can't block: then the new process need not wait for this one.
  const bool fits = descriptors.descriptors().size() <= posix::parcel_batch;
  if (fits) send();
  // It begins with this thread's mask.
  posix::Spawned spawned = as.no_interrupt
                               ? (posix::BlockSignal{SIGINT}, posix::spawn_self(its.get()))
                               : posix::spawn_self(its.get());
  its.reset();
  try {
    if (!fits) send();
    return posix::make_ref<posix::SharedChild>(spawned.pid, std::move(spawned.pidfd),
                                               std::move(mine), launching::end_judge);
  } catch (...) {
    posix::kill_and_reap(spawned.pid);
    throw;
  }
}

}  // namespace brood::multiprocessing
