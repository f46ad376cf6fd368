// SPDX-License-Identifier: MIT
// What the processes of a process pool do that are not the program: its fork server and the
// workers.
#pragma once

#include <cstdint>
#include <string>

#include "../multiprocessing/process.hpp"
#include "../posix/fork_server_process.hpp"
#include "task_table.hpp"

namespace brood::futures {

/// What they have to know.
struct WorkerSettings {
  multiprocessing::StartMethod start_method;  // theirs, and the one for what they start
  Initializer initializer;
  std::uint32_t max_tasks = 0;  // a worker ends after so many; 0: no limit
  std::size_t memory = 0;       // bytes that a worker may take of its own; 0: no limit
  std::string name;             // of the workers' Processes: "NAME-1", "NAME-2", ...
  // The Process that has made the pool.
  std::string program_name;
  posix::ProcessIdentity program;
};

class PoolWorkers final : public posix::ForkedWorkers {
 public:
  /// Both are kept by reference.
  PoolWorkers(TaskTable& table, const WorkerSettings& settings) noexcept
      : table_{table}, settings_{settings} {}

  // What each worker would do for itself, but for its number.
  void prepare() override {
    posix::List<unsigned> identity;
    identity.push_back(0);
    std::string name = settings_.name + '-';
    name.reserve(name.size() + 10);
    multiprocessing::Processes::here().become(
        posix::make_ref<multiprocessing::ProcessState>(std::move(name), false, std::move(identity),
                                                       multiprocessing::ProcessState::nobody),
        settings_.program, settings_.program_name);
    multiprocessing::set_start_method(settings_.start_method, true);
    posix::LoadedModules::here();
    posix::CrashRecorder::install();
    table_.done_event().set();
  }

  void run(std::uint32_t worker) noexcept override {
    multiprocessing::Processes::here().become_number(worker + 1);
    if (!TaskWorker{table_, worker}.run(settings_.initializer, settings_.max_tasks,
                                        settings_.memory))
      posix::end_forked_child(1);
  }

  void ended(std::uint32_t worker) noexcept override {
    posix::CrashRecord& crash = table_.cell(worker).crash;
    if (crash.signal.load(std::memory_order_relaxed) != 0) crash.locate();
  }

 private:
  TaskTable& table_;
  const WorkerSettings& settings_;
};

}  // namespace brood::futures
