// SPDX-License-Identifier: MIT
#include <signal.h>

#include <brood/posix/pipe.hpp>
#include <brood/posix/signals.hpp>
#include <cerrno>

#include "support/catch.hpp"
#include "support/start_ways.hpp"

namespace posix = brood::posix;

namespace {

bool is_blocked(int signal) {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}

bool is_pending(int signal) {
  sigset_t pending;
  ::sigpending(&pending);
  return sigismember(&pending, signal) == 1;
}

// Writes to a pipe that nobody reads; true if that was EPIPE.
bool write_in_vain() {
  posix::PipeEnds pipe = posix::make_pipe();
  pipe.read.reset();
  return posix::write_some(pipe.write.get(), "x", 1) == -1 && errno == EPIPE;
}

}  // namespace

TEST_CASE("signals are blocked for a scope and the mask comes back") {
  CHECK_FALSE(is_blocked(SIGUSR1));
  {
    errno = ERANGE;
    const posix::BlockAllSignals blocked;
    CHECK(is_blocked(SIGUSR1));
    CHECK(sigismember(&blocked.before(), SIGUSR1) == 0);
  }
  CHECK_FALSE(is_blocked(SIGUSR1));
}

TEST_CASE("a write to nobody raises no SIGPIPE within the scope") {
  CHECK(support::in_child([] {
          ::signal(SIGPIPE, SIG_DFL);
          {
            const posix::SuppressSigpipe scope;
            if (!write_in_vain()) return 1;
          }
          return is_blocked(SIGPIPE) || is_pending(SIGPIPE) ? 2 : 0;
        }) == 0);
}

TEST_CASE("a SIGPIPE that was pending before stays pending") {
  CHECK(support::in_child([] {
          sigset_t set;
          sigemptyset(&set);
          sigaddset(&set, SIGPIPE);
          ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
          ::raise(SIGPIPE);
          {
            const posix::SuppressSigpipe scope;
            if (!write_in_vain()) return 1;
          }
          return is_blocked(SIGPIPE) && is_pending(SIGPIPE) ? 0 : 2;
        }) == 0);
}

TEST_CASE("outside of the scope SIGPIPE is what it was") {
  CHECK(support::in_child([] {
          ::signal(SIGPIPE, SIG_DFL);
          { const posix::SuppressSigpipe scope; }
          write_in_vain();
          return 1;
        }) == -SIGPIPE);
}
