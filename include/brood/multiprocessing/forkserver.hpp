// SPDX-License-Identifier: MIT
// This program's fork server: posix/process_server.hpp, forked by freeze_support(). Python
// counterpart: multiprocessing.forkserver.
//
// There is one for the program and all that descends from it. Who has been forked has it with the
// rest; a spawned process is given it.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "../posix/immortal.hpp"
#include "../posix/process_identity.hpp"
#include "../posix/process_server.hpp"
#include "../posix/signals.hpp"
#include "../posix/socket_pair.hpp"
#include "../posix/this_process.hpp"
#include "errors.hpp"

namespace brood::multiprocessing {

/// The working directory at a moment, told from all others that there are as long as somebody keeps
/// it. Equal ones are one directory at one place in the tree; unknown ones equal nothing.
struct WorkingDirectory {
  std::uint64_t device = 0;
  std::uint64_t file = 0;
  std::uint64_t mount = 0;  // 0: unknown (before Linux 5.8)

  static WorkingDirectory now() noexcept {
    WorkingDirectory result;
#ifdef STATX_MNT_ID
    struct statx found {};
    if (::statx(AT_FDCWD, ".", 0, STATX_INO | STATX_MNT_ID, &found) == 0 &&
        (found.stx_mask & STATX_INO) != 0 && (found.stx_mask & STATX_MNT_ID) != 0)
      result = {std::uint64_t{found.stx_dev_major} << 32 | found.stx_dev_minor, found.stx_ino,
                found.stx_mnt_id};
#endif
    return result;
  }
  bool operator==(const WorkingDirectory& other) const noexcept {
    return mount != 0 && mount == other.mount && file == other.file && device == other.device;
  }
};

/// This process's access to the fork server. Set once, at the start of main() or of a child; then
/// only read, from any thread.
class ForkServer {
 public:
  static ForkServer& here() { return posix::immortal<ForkServer>(); }

  /// Whether this process may start others by forkserver and spawn: freeze_support() was called in
  /// it, or in the one that it descends from.
  bool is_supported() const noexcept { return is_supported_; }
  void note_support() noexcept { is_supported_ = true; }

  /// In the program: forks it. `run` is what each process that it forks begins with, given what it
  /// is told. The server first calls `rehearse`, which must not throw: a function's first call in a
  /// process is the dynamic linker's search for it, which none of the children has to make then.
  /// Throws os::OSError.
  void start(posix::RunOrdered run, void (*rehearse)() noexcept);

  /// In a spawned process: the one of its parent.
  void join(posix::unique_fd orders, posix::ProcessIdentity server);

  /// Has it fork a process that is told this and given these, at most posix::most_told and
  /// posix::most_descriptors_told. `no_interrupt`: it begins with SIGINT blocked. Throws
  /// ProcessError when it is dead, or this process has closed its access to it; os::OSError when no
  /// process can be had.
  posix::Ref<posix::SharedChild> fork_process(std::string_view told,
                                              const posix::List<int>& descriptors,
                                              bool no_interrupt = false);

  /// What a spawned process needs for join().
  int orders() const noexcept { return is_intact() ? orders_.get() : -1; }
  posix::ProcessIdentity identity() const noexcept { return identity_; }

  /// Whether what it forks begins in the directory that this process is in.
  bool is_in_our_directory() const noexcept { return WorkingDirectory::now() == directory_; }

  /// "the fork server (pid 7) was killed by SIGKILL (signal 9)"
  static std::string fate();

 private:
  template <class T>
  friend T& posix::immortal();
  ForkServer() = default;

  // A process that closes all of its descriptors (a daemon may) has lost its access, and another
  // file may have the number.
  bool is_intact() const noexcept {
    struct stat file {};
    return orders_ && ::fstat(orders_.get(), &file) == 0 && file.st_ino == inode_ &&
           file.st_dev == device_;
  }
  void remember_orders(posix::unique_fd orders) {
    struct stat file {};
    posix::check(::fstat(orders.get(), &file), "look at a socket");
    inode_ = file.st_ino;
    device_ = file.st_dev;
    orders_ = std::move(orders);
  }
  static void end_at_exit();

  bool is_supported_ = false;
  posix::unique_fd orders_;
  ino_t inode_ = 0;
  dev_t device_ = 0;
  posix::unique_fd server_;  // readable when it has ended
  posix::ProcessIdentity identity_;
  WorkingDirectory directory_;              // its own
  std::uint64_t owner_ = 0;                 // who has forked it
  posix::Ref<posix::SharedChild> process_;  // there
};

// ---------------------------------------------------------------------------------------------

inline void ForkServer::start(posix::RunOrdered run, void (*rehearse)() noexcept) {
  posix::unique_fd mine, servers;
  posix::make_sockets(SOCK_SEQPACKET, mine, servers);
  remember_orders(std::move(mine));
  try {
    process_ = posix::fork_process_server(std::move(servers), run, [rehearse]() noexcept {
      // For those that it will fork.
      ForkServer& server = here();
      server.identity_ = posix::ProcessIdentity::of(::getpid());
      try {
        server.server_ = posix::open_pidfd(::getpid());
      } catch (const os::OSError&) {  // there is none to spare: its death is seen less soon
      }
      rehearse();
      server.directory_ = WorkingDirectory::now();
    });
    directory_ = WorkingDirectory::now();
    identity_ = posix::ProcessIdentity::of(process_->pid());
    if (process_->pidfd() >= 0) server_ = posix::duplicate(process_->pidfd());
  } catch (...) {
    if (process_) posix::kill_and_reap(process_->pid());
    process_ = nullptr;
    orders_.reset();
    throw;
  }
  owner_ = posix::this_process();
  // Of all exit handlers among the last to run: what waits for children was registered later.
  std::atexit(&end_at_exit);
}

inline void ForkServer::join(posix::unique_fd orders, posix::ProcessIdentity server) {
  try {
    server_ = server.open();
  } catch (const os::OSError& error) {  // where pidfds are forbidden it goes without
    if (!posix::means_unsupported(error.code().value())) throw;
  }
  identity_ = server;
  remember_orders(std::move(orders));
}

inline posix::Ref<posix::SharedChild> ForkServer::fork_process(std::string_view told,
                                                               const posix::List<int>& descriptors,
                                                               bool no_interrupt) {
  if (!is_intact())
    throw ProcessError{
        "start a process by the fork server: this process has closed its access to it"};
  auto ordered =
      posix::order_process(orders_.get(), server_.get(), told, descriptors, no_interrupt);
  if (ordered.pid == 0) throw ProcessError{"start a process by the fork server: " + fate()};
  return posix::make_ref<posix::SharedChild>(
      ordered.pid, std::move(ordered.pidfd),
      posix::EndRelay{std::move(ordered.relay), server_.get(), &ForkServer::fate,
                      [] { return here().identity().is_stopped(); }});
}

inline std::string ForkServer::fate() {
  const ForkServer& server = here();
  std::string text = "the fork server (pid " + std::to_string(server.identity_.pid()) + ") ";
  std::optional<int> code;
  if (server.process_ && server.owner_ == posix::this_process()) {
    try {
      // Its sockets are closed a moment before its code is there.
      constexpr std::chrono::nanoseconds moment{1'000'000'000};
      code = server.process_->wait(posix::Deadline{moment});
    } catch (const os::OSError&) {  // somebody else waited for it
    }
  }
  if (!code) return text + "has ended";
  return text + posix::describe_end(*code);
}

// It has nothing to lose: those who could ask it for something have been waited for.
inline void ForkServer::end_at_exit() {
  ForkServer& server = here();
  if (!server.process_ || server.owner_ != posix::this_process()) return;
  try {
    server.process_->send_signal(SIGKILL);
    server.process_->wait(posix::Deadline{forever});
  } catch (const std::exception&) {  // it has ended, and somebody else waited for it
  }
}

}  // namespace brood::multiprocessing
