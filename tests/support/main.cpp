// SPDX-License-Identifier: MIT
//
// main() of every test program. A program that starts processes by forkserver and spawn has
// freeze_support() called first (support/start_methods.hpp). The handlers that Catch2 installs for
// fatal signals would run in the children of the tests as well, so that terminate() of a child
// would print the report of a failed test: 2.13 is built without them, and with 3 each forked child
// gives them up.
#define CATCH_CONFIG_RUNNER
#define CATCH_CONFIG_NO_POSIX_SIGNALS

#include "catch.hpp"

namespace support {
void (*begin_main)() = nullptr;
}

#if __has_include(<catch2/catch_session.hpp>)

#include <pthread.h>
#include <signal.h>

#include <catch2/catch_session.hpp>

namespace {

// In the child of a fork: default action for each fatal signal that still has Catch2's handler,
// which is known by standing at SIGILL too (tests install handlers, but not for that).
void drop_catch_handlers() {
  struct sigaction handler {};
  if (::sigaction(SIGILL, nullptr, &handler) != 0 || handler.sa_handler == SIG_DFL) return;
  for (const int number : {SIGINT, SIGTERM, SIGILL, SIGFPE, SIGSEGV, SIGABRT}) {
    struct sigaction now {};
    if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler == handler.sa_handler) {
      ::signal(number, SIG_DFL);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (support::begin_main != nullptr) support::begin_main();
  ::pthread_atfork(nullptr, nullptr, drop_catch_handlers);
  return Catch::Session().run(argc, argv);
}

#else

int main(int argc, char** argv) {
  if (support::begin_main != nullptr) support::begin_main();
  return Catch::Session().run(argc, argv);
}

#endif
