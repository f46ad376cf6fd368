// SPDX-License-Identifier: MIT
//
// Many threads start programs at once.
#include <sys/wait.h>

#include <atomic>
#include <brood/subprocess.hpp>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/start_ways.hpp"

using namespace brood::subprocess;
using namespace std::chrono_literals;

namespace {

// The descriptors of a child that was given all that can be inherited, and the shell's own.
std::string descriptors_of_a_child() {
  return run("cd /proc/$$/fd && echo *",
             {.in = DEVNULL, .out = PIPE, .close_fds = false, .shell = true})
      .out;
}

// One of some uses of a program; false if anything of it is not as it should be.
bool use_program(int kind, const std::string& name, const std::string& usual_descriptors) {
  switch (kind) {
    case 0: {
      const CompletedProcess process = run({"cat"}, {.input = name, .capture_output = true});
      return process.out == name && process.err.empty() && process.returncode == 0;
    }
    case 1:
      try {
        run({"/no/such/" + name}, {.input = name, .capture_output = true});
        return false;
      } catch (const brood::os::FileNotFoundError& error) {
        return error.filename() == "/no/such/" + name;
      }
    case 2: {
      // It ends only when no other program has its input's other end.
      Popen process({"cat"}, {.in = PIPE, .out = PIPE, .close_fds = false});
      process.in.write(name);
      process.in.close();
      return process.out.read() == name && process.wait(60s) == 0;
    }
    case 3:
      return descriptors_of_a_child() == usual_descriptors;
    default: {
      const int code = static_cast<int>(name.size()) + 40;
      const CompletedProcess process =
          run({"sh", "-c", "echo $0 >&2; exit " + std::to_string(code), name},
              {.capture_output = true, .in = DEVNULL, .start_new_session = true});
      return process.out.empty() && process.err == name + "\n" && process.returncode == code;
    }
  }
}

// How many of so many uses from 64 threads at once were wrong.
int storm(int uses_of_each) {
  const std::string usual_descriptors = descriptors_of_a_child();
  std::atomic<int> wrong{0};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&, i] {
      for (++ready; ready < 64;) std::this_thread::yield();
      for (int k = 0; k < uses_of_each; ++k) {
        const std::string name = std::to_string(i) + "-" + std::to_string(k);
        try {
          if (!use_program((i + k) % 5, name, usual_descriptors)) ++wrong;
        } catch (const std::exception&) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return wrong;
}

}  // namespace

TEST_CASE("programs started by 64 threads at once get what is theirs and leave nothing") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK(storm(brood::posix::sanitized ? 2 : 6) == 0);
}

TEST_CASE("10000 programs started by 64 threads get what is theirs and leave nothing", "[soak]") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  CHECK(storm(157) == 0);
}

TEST_CASE("threads that wait and look and end one program see the same code") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  for (int round = 0; round < 15; ++round) {
    Popen process({"cat"}, {.in = PIPE, .out = DEVNULL, .kill_tree = round % 2 == 1});
    int codes[8] = {};
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        for (++ready; ready < 8;) std::this_thread::yield();
        if (i < 2) {
          codes[i] = process.wait();
        } else if (i == 2) {
          for (codes[i] = 1000; codes[i] == 1000;) {
            try {
              codes[i] = process.wait(1ms);
            } catch (const TimeoutExpired&) {
            }
          }
        } else if (i < 5) {
          while (!process.poll()) std::this_thread::yield();
          codes[i] = process.returncode().value_or(1000);
        } else {
          if (i == 5) process.send_signal(SIGURG);  // which is ignored
          if (i == 6) process.terminate();
          if (i == 7) process.send_signal(SIGTERM);
          codes[i] = process.wait();
          process.kill();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int code : codes) CHECK(code == -SIGTERM);
  }
}

TEST_CASE("a program can be ended by another thread while it is communicated with") {
  const auto way = support::each_start_way();
  const support::LeakCheck nothing_left;
  for (const bool kill_tree : {false, true}) {
    Popen process({"sh", "-c", "cat; exec sleep 600"},
                  {.in = PIPE, .out = PIPE, .kill_tree = kill_tree});
    std::thread killer([&process] {
      std::this_thread::yield();
      process.terminate();
      process.kill();
    });
    const std::string input(1'000'000, 'x');
    std::size_t taken = 0;
    for (bool done = false; !done;) {
      try {
        taken = process.communicate(taken == 0 ? input : std::string{}, 20ms).first.size();
        done = true;
      } catch (const TimeoutExpired&) {
        taken = 1;
      }
    }
    killer.join();
    CHECK(taken <= input.size());
    CHECK(process.wait() < 0);
  }
}
