// SPDX-License-Identifier: MIT
// How to run it: the redirections and the options of brood::subprocess.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../function.hpp"
#include "../os.hpp"
#include "../posix/spawn_child.hpp"
#include "../timeout.hpp"

namespace brood::subprocess {

/// What a standard stream of the child can be, beside a descriptor, a file or a sink.
enum class Redirect {
  INHERIT,  ///< the caller's own
  PIPE,     ///< a pipe; its other end is Popen's in, out or err
  DEVNULL,  ///< /dev/null
  STDOUT,   ///< for err only: the same as out
};
using enum Redirect;

/// Takes the child's output as it comes, in pieces of any size. It runs in the thread that is in
/// run(), call(), communicate(), wait() or poll(), or destroys the Popen, which waits for the child
/// as wait() does; meanwhile the output stays in the pipe, and a child that has filled it stands
/// still. What it throws ends the child of run() and call(), and leaves any call; after that a
/// destructor calls it no more, and drops what it throws itself.
using Sink = Function<void(std::string_view)>;

/// What a Sink can be made of, or is one.
template <class F>
concept TakesText = requires(std::decay_t<F>& sink, std::string_view text) {
  sink(text);
};

/// Where one standard stream of the child comes from or goes to: a Redirect, a descriptor or a
/// FILE or another object that has a fileno(), as a Popen's out (which stay open here; what they
/// have buffered is not looked at), file(path), append(path), or a sink. Python counterpart: the
/// stdin, stdout and stderr arguments.
class Stdio {
 public:
  enum class Kind { redirect, descriptor, file, append, sink };

  Stdio() noexcept = default;
  Stdio(Redirect redirect) noexcept : redirect_{redirect} {}    // NOLINT
  Stdio(int fd) noexcept : kind_{Kind::descriptor}, fd_{fd} {}  // NOLINT
  Stdio(bool) = delete;
  Stdio(std::FILE* stream) noexcept : Stdio{stream == nullptr ? -1 : ::fileno(stream)} {}  // NOLINT
  template <class Stream>
  requires std::is_same_v<decltype(std::declval<const Stream&>().fileno()), int> Stdio(
      const Stream& stream)
      : Stdio{stream.fileno()} {}  // NOLINT
  template <TakesText F>
  Stdio(F&& sink)  // NOLINT
      : kind_{Kind::sink}, sink_{std::forward<F>(sink)} {}
  Stdio(Kind kind, std::string path) : kind_{kind}, path_{std::move(path)} {}

  Kind kind() const noexcept { return kind_; }
  bool is(Redirect redirect) const noexcept {
    return kind_ == Kind::redirect && redirect_ == redirect;
  }
  int fd() const noexcept { return fd_; }
  const std::string& path() const noexcept { return path_; }
  const Sink& sink() const noexcept { return sink_; }

 private:
  Kind kind_ = Kind::redirect;
  Redirect redirect_ = INHERIT;
  int fd_ = -1;
  std::string path_;
  Sink sink_;
};

/// A file, opened for reading as in, else emptied (or made, mode 0666) for writing.
inline Stdio file(std::string path) { return {Stdio::Kind::file, std::move(path)}; }
/// A file (made if need be) written at its end. Not for in.
inline Stdio append(std::string path) { return {Stdio::Kind::append, std::move(path)}; }

using posix::ResourceLimit;
using Callback = Function<void()>;

/// Python's keyword arguments, in Python's order, then brood's own. Which calls take a field
/// stands beside it; nothing beside it: all take it. A field given to a call that does not take it,
/// and every value that makes no sense, is a std::invalid_argument that names it.
struct Options {
  /// The text of the child's standard input; "" for none. Unset (so with `{}`): see `in`. (run,
  /// check_output; not together with `in`)
  std::optional<std::string> input = {};
  /// Short for .out = PIPE, .err = PIPE. (run)
  bool capture_output = false;
  /// Counts from after the start. At its end the child is killed. (run, call, check_*)
  Timeout timeout = forever;
  /// Throw CalledProcessError for a code other than 0. (run)
  bool check = false;
  /// The program, if it is not the command's first string; the shell, with `shell`.
  std::string executable = {};
  /// The child's standard streams.
  Stdio in = {};
  Stdio out = {};
  Stdio err = {};
  /// Runs in the child just before the program, in a copy of this process (slow for a large one)
  /// that has one thread only: it must take no lock that another thread may hold. What it throws
  /// becomes a SubprocessError here. A variable it sets counts unless env or kill_tree is given.
  Callback preexec = {};
  /// Close all descriptors from 3 on, but pass_fds. If false, those not close-on-exec stay open.
  bool close_fds = true;
  /// Run the command by /bin/sh -c.
  bool shell = false;
  /// The child's directory. A relative program is looked for there.
  std::string cwd = {};
  /// The whole environment, also for the search of the program in PATH. Unset (so with `{}`): this
  /// process's; os::Environment{} is one without variables.
  std::optional<os::Environment> env = {};
  /// SIGPIPE and SIGXFSZ to default and no signal blocked; if false, as in the calling thread.
  bool restore_signals = true;
  /// setsid(2).
  bool start_new_session = false;
  /// Descriptors that the child has too, under the same numbers. Implies close_fds.
  std::vector<int> pass_fds = {};
  /// The ids the child runs under, real, effective and saved; a name's: os::uid_of("nobody").
  std::optional<uid_t> user = {};
  std::optional<gid_t> group = {};
  /// Its supplementary groups; std::vector<gid_t>{} drops all. Unset (so with `{}`): as here.
  std::optional<std::vector<gid_t>> extra_groups = {};
  std::optional<mode_t> umask = {};
  /// Bytes of the kernel's buffer in each PIPE (fcntl(2), F_SETPIPE_SZ).
  std::optional<int> pipesize = {};
  /// setpgid(2): 0 gives it a group of its own.
  std::optional<pid_t> process_group = {};

  /// setrlimit(2), in order.
  std::vector<ResourceLimit> limits = {};
  /// terminate(), kill(), send_signal() and the end of a time limit reach the child's descendants
  /// too (the child gets a variable BROOD_TREE to know them by).
  bool kill_tree = false;
  /// The signal sent to the child when the *thread* that started it ends (PR_SET_PDEATHSIG).
  std::optional<int> parent_death_signal = {};
};

}  // namespace brood::subprocess
