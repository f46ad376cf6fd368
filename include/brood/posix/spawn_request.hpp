// SPDX-License-Identifier: MIT
// What may be asked of a new program, and its translation into the plan that the child carries out.
#pragma once

#include <sys/types.h>

#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../function.hpp"
#include "exchange.hpp"
#include "fd.hpp"
#include "pipe.hpp"
#include "signals.hpp"
#include "spawn_child.hpp"

namespace brood::posix {

/// A growing list of texts that ends with a null pointer, as exec wants them. (As a std::vector it
/// would be the dearest single thing to compile in this header.)
class PointerList {
 public:
  PointerList() noexcept = default;
  PointerList(std::initializer_list<const char*> texts) {
    for (const char* const text : texts) push_back(text);
  }
  PointerList(PointerList&& other) noexcept { swap(other); }
  PointerList& operator=(PointerList&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PointerList() { delete[] texts_; }

  void push_back(const char* text) {
    if (size_ + 1 >= capacity_) {
      const std::size_t larger = capacity_ == 0 ? 16 : 2 * capacity_;
      const char** const moved = new const char*[larger];
      for (std::size_t i = 0; i < size_; ++i) moved[i] = texts_[i];
      delete[] texts_;
      texts_ = moved;
      capacity_ = larger;
    }
    texts_[size_++] = text;
    texts_[size_] = nullptr;
  }
  char* const* data() const noexcept {
    return const_cast<char* const*>(texts_ == nullptr ? &end_ : texts_);
  }

 private:
  void swap(PointerList& other) noexcept {
    posix::swap(texts_, other.texts_);
    posix::swap(size_, other.size_);
    posix::swap(capacity_, other.capacity_);
  }

  const char* const end_ = nullptr;  // the list as long as nothing was put in
  const char** texts_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

/// Refers to its texts and lists, which must outlive the call.
struct SpawnRequest {
  PointerList argv;
  const PointerList* environment = nullptr;  // "NAME=value"; null: ::environ
  std::string executable;                    // looked up in PATH unless it has a '/'
  int stdio[3] = {-1, -1, -1};  // what the child has as 0, 1 and 2; -1: the same as the caller
  bool close_fds = true;        // all from 3 on but pass_fds
  const std::vector<int>* pass_fds = nullptr;  // kept open under their numbers
  std::string cwd;                             // empty: the caller's
  bool restore_signals = true;                 // SIGPIPE and SIGXFSZ to default, no signal blocked
  bool new_session = false;
  std::optional<pid_t> process_group;  // 0: one of its own
  const std::vector<ResourceLimit>* limits = nullptr;
  std::optional<mode_t> umask;
  const std::vector<gid_t>* extra_groups = nullptr;
  std::optional<gid_t> group;
  std::optional<uid_t> user;
  int parent_death_signal = 0;
  Function<void()> preexec;  // runs in the child
  // A pidfd is a file that the kernel makes and throws away, the dearest thing of a start after the
  // process itself. Who only waits for the child, without limit, can do without.
  bool pidfd = true;
};

/// The value of PATH in a list of "NAME=value" that ends with a null pointer; /bin and /usr/bin
/// where it is missing.
inline const char* find_path(const char* const* environment) noexcept {
  for (; environment != nullptr && *environment != nullptr; ++environment)
    if (std::strncmp(*environment, "PATH=", 5) == 0) return *environment + 5;
  return "/bin:/usr/bin";
}

/// The paths to try for `program`, each ended by NUL, as execvpe(3) does: itself if it has a '/',
/// else one for each directory of PATH.
inline std::string exec_candidates(std::string_view program, const char* const* environment) {
  std::string result;
  if (program.find('/') != std::string_view::npos) {
    result = program;
  } else {
    std::string_view path = find_path(environment);
    for (bool more = true; more;) {
      const std::size_t colon = path.find(':');
      const std::string_view directory = path.substr(0, colon);
      if (!result.empty()) result += '\0';
      if (!directory.empty()) {
        result += directory;
        if (directory.back() != '/') result += '/';
      }
      result += program;
      more = colon != std::string_view::npos;
      if (more) path.remove_prefix(colon + 1);
    }
  }
  result += '\0';  // std::string adds the NUL that ends the list
  return result;
}

/// Owns what a SpawnPlan points to. Made before signals are blocked.
class PreparedSpawn {
 public:
  /// `request` must outlive it. Throws os::OSError (EMFILE, EBADF).
  explicit PreparedSpawn(const SpawnRequest& request);
  ~PreparedSpawn() {
    if (plan.keep_fds != few_fds_) delete[] keep_fds_;
  }
  PreparedSpawn(const PreparedSpawn&) = delete;
  PreparedSpawn& operator=(const PreparedSpawn&) = delete;

  /// Makes the pipe for a child's report, if there is none yet. Throws os::OSError (EMFILE).
  void open_report();

  SpawnPlan plan;
  PipeEnds report;

 private:
  // Keeps the list sorted and without doubles.
  void keep(int fd) noexcept {
    std::size_t at = plan.keep_count;
    while (at > 0 && keep_fds_[at - 1] >= fd) --at;
    if (at < plan.keep_count && keep_fds_[at] == fd) return;
    for (std::size_t i = plan.keep_count++; i > at; --i) keep_fds_[i] = keep_fds_[i - 1];
    keep_fds_[at] = fd;
  }

  std::string candidates_;
  int few_fds_[8];  // enough for most, so that they need no memory
  int* keep_fds_ = few_fds_;
  unique_fd lifted_[3];
  char scratch_[2048];
};

inline PreparedSpawn::PreparedSpawn(const SpawnRequest& request) {
  for (int target = 0; target < 3; ++target) {
    int source = request.stdio[target];
    // A source among the targets would be overwritten by an earlier redirection, or is needed by a
    // later one: it moves out of the way.
    if (source >= 0 && source < 3 && source != target) {
      lifted_[target] = duplicate(source);
      source = lifted_[target].get();
    }
    plan.stdio[target] = source;
  }

  plan.argv = request.argv.data();
  plan.inherits_environment = request.environment == nullptr;
  plan.envp = plan.inherits_environment ? ::environ : request.environment->data();
  candidates_ = exec_candidates(request.executable, plan.envp);
  plan.candidates = candidates_.c_str();

  plan.close_fds = request.close_fds;
  const std::size_t passed = request.pass_fds == nullptr ? 0 : request.pass_fds->size();
  // One more than that, for the report.
  if (passed >= sizeof few_fds_ / sizeof few_fds_[0]) keep_fds_ = new int[passed + 1];
  plan.keep_fds = keep_fds_;
  for (std::size_t i = 0; i < passed; ++i)
    if ((*request.pass_fds)[i] >= 3) keep((*request.pass_fds)[i]);
  plan.scratch = scratch_;
  plan.scratch_size = sizeof scratch_;

  if (!request.cwd.empty()) plan.cwd = request.cwd.c_str();
  plan.restore_signals = request.restore_signals;
  plan.new_session = request.new_session;
  plan.set_process_group = request.process_group.has_value();
  plan.process_group = request.process_group.value_or(0);
  if (request.limits != nullptr) {
    plan.limits = request.limits->data();
    plan.limit_count = request.limits->size();
  }
  plan.set_umask = request.umask.has_value();
  plan.umask = request.umask.value_or(0);
  if (request.extra_groups != nullptr) {
    plan.set_groups = true;
    plan.groups = request.extra_groups->data();
    plan.group_count = request.extra_groups->size();
  }
  plan.set_group = request.group.has_value();
  plan.group = request.group.value_or(0);
  plan.set_user = request.user.has_value();
  plan.user = request.user.value_or(0);
  plan.parent_death_signal = request.parent_death_signal;
  if (plan.parent_death_signal != 0) plan.parent = ::getpid();
  if (request.preexec) {
    plan.preexec_callback = &request.preexec;
    plan.preexec = [](const void* callback, SpawnReport& said) {
      std::string_view{"an exception of unknown type"}.copy(said.text, sizeof said.text - 1);
      try {
        (*static_cast<const Function<void()>*>(callback))();
        return true;
      } catch (const std::exception& error) {
        const std::string_view what{error.what()};
        said.text[what.copy(said.text, sizeof said.text - 1)] = '\0';
      } catch (...) {
      }
      return false;
    };
  }
}

inline void PreparedSpawn::open_report() {
  if (plan.report_fd >= 0) return;
  report = make_pipe();
  plan.report_fd = report.write.get();
  keep(plan.report_fd);
}

/// An exception of `preexec`, seen in the child.
class PreexecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws what the child reported.
[[noreturn]] inline void throw_report(const SpawnRequest& request, const SpawnReport& report) {
  const auto number = std::to_string(report.index);
  switch (report.stage) {
    case SpawnStage::redirect:
      throw_os_error(report.error, "give the child its standard stream " + number);
    case SpawnStage::pass_fds:
      throw_os_error(report.error, "pass on descriptor " + number);
    case SpawnStage::chdir:
      throw_os_error(report.error, "change the child's directory to", request.cwd);
    case SpawnStage::new_session:
      throw_os_error(report.error, "start a new session");
    case SpawnStage::process_group:
      throw_os_error(report.error, "move the child to process group " +
                                       std::to_string(request.process_group.value_or(0)));
    case SpawnStage::limits:
      throw_os_error(report.error, "set resource limit " + number + " of the list");
    case SpawnStage::extra_groups:
      throw_os_error(report.error, "set the child's supplementary groups");
    case SpawnStage::group:
      throw_os_error(report.error, "set the child's group");
    case SpawnStage::user:
      throw_os_error(report.error, "set the child's user");
    case SpawnStage::parent_death_signal:
      throw_os_error(report.error, "set the child's parent-death signal");
    case SpawnStage::preexec:
      throw PreexecError{report.text};
    case SpawnStage::exec:
      break;
  }
  throw_os_error(report.error, "execute", request.executable);
}

}  // namespace brood::posix
