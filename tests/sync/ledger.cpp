// SPDX-License-Identifier: MIT
#include <signal.h>

#include <brood/sync/ledger.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/leaks.hpp"
#include "support/programs.hpp"
#include "support/sleepers.hpp"

namespace posix = brood::posix;
using brood::sync::Debt;
using brood::sync::Ledger;
using brood::sync::LedgerWords;
using namespace std::chrono_literals;
using support::Gate;
using support::patience;
using support::Shared;

namespace {

// A ledger and the number of items in the queue that it stands for.
struct Books {
  Shared<LedgerWords> words;
  Shared<std::atomic<int>> items;
  Ledger ledger{*words};

  void put() {
    const Ledger::Mark mark{ledger, ledger.row().putting};
    ledger.expect(1);
    ++*items;
  }
  void get() {
    const Ledger::Mark mark{ledger, ledger.row().taking};
    --*items;
    ++ledger.row().leases;
  }
  // "done", "time", or who is to blame for what.
  std::string join(brood::Timeout limit = patience) {
    try {
      return ledger.join(
                 posix::Deadline{limit}, [&] { return *items == 0; },
                 [](pid_t pid, std::int64_t count) {
                   throw std::runtime_error{std::to_string(pid) + " owes " + std::to_string(count)};
                 })
                 ? "done"
                 : "time";
    } catch (const std::runtime_error& stuck) {
      return stuck.what();
    }
  }
};

template <class F>
pid_t child(F body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(support::last_alarm);
    body();
    ::_exit(0);
  }
  return pid;
}
template <class F>
pid_t killed_after(F body) {
  const pid_t pid = child([&] {
    body();
    ::raise(SIGKILL);
  });
  CHECK(support::wait_for(pid) == -SIGKILL);
  return pid;
}

// What a joiner is told that sleeps when the gate is opened.
std::string answer_after(const Gate& gate, Books& books) {
  std::string answer;
  std::thread joiner{[&] { answer = books.join(); }};
  support::await_sleepers(1);
  gate.open();
  joiner.join();
  return answer;
}

}  // namespace

TEST_CASE("a ledger is settled when every item is done") {
  const support::LeakCheck nothing_left;
  Books books;
  CHECK(books.join(0s) == "done");
  CHECK_FALSE(books.ledger.task_done());
  books.put();
  books.put();
  CHECK(books.join(10ms) == "time");
  books.get();
  CHECK(books.ledger.debts().size() == 1);
  CHECK(books.ledger.task_done());
  CHECK(books.join(0s) == "time");
  books.get();
  CHECK(books.ledger.task_done());
  CHECK(books.join() == "done");
  CHECK_FALSE(books.ledger.task_done());
  CHECK(books.ledger.debts().empty());
}

TEST_CASE("a ledger names the dead who owe and lets a survivor settle") {
  Books books;
  for (int i = 0; i < 3; ++i) books.put();
  const pid_t pid = killed_after([&] {
    books.get();
    books.get();
  });
  CHECK(books.join(10ms) == "time");  // one still lies there
  const auto debts = books.ledger.debts();
  REQUIRE(debts.size() == 1);
  CHECK(debts[0].owner.pid() == pid);
  CHECK(debts[0].count == 2);
  CHECK_FALSE(debts[0].alive);
  books.get();
  CHECK(books.ledger.debts().size() == 2);
  CHECK(books.ledger.task_done());
  CHECK(books.join() == std::to_string(pid) + " owes 2");
  CHECK(books.ledger.task_done());
  CHECK(books.join() == std::to_string(pid) + " owes 1");
  CHECK(books.ledger.task_done());
  CHECK(books.join() == "done");
}

TEST_CASE("a joiner learns of a death while it waits") {
  Books books;
  books.put();
  const Gate taken, gate;
  const pid_t pid = child([&] {
    books.get();
    taken.open();
    gate.wait();
    ::raise(SIGKILL);
  });
  CHECK(taken.wait());
  CHECK(answer_after(gate, books) == std::to_string(pid) + " owes 1");
  support::wait_for(pid);
}

TEST_CASE("a joiner learns that the survivors are done and only the debt of the dead is left") {
  Books books;
  books.put();
  books.put();
  const pid_t dead = killed_after([&] { books.get(); });
  const Gate taken, gate;
  const pid_t survivor = child([&] {
    books.get();
    taken.open();
    gate.wait();
    books.ledger.task_done();
    for (;;) ::pause();
  });
  CHECK(taken.wait());
  CHECK(answer_after(gate, books) == std::to_string(dead) + " owes 1");
  ::kill(survivor, SIGKILL);
  support::wait_for(survivor);
}

TEST_CASE("a joiner is not kept by a survivor that looked for an item in vain") {
  Books books;
  books.put();
  const pid_t dead = killed_after([&] { books.get(); });
  const Gate looking, gate;
  const pid_t survivor = child([&] {
    {
      const Ledger::Mark mark{books.ledger, books.ledger.row().taking};
      looking.open();
      gate.wait();
    }
    for (;;) ::pause();
  });
  CHECK(looking.wait());
  CHECK(answer_after(gate, books) == std::to_string(dead) + " owes 1");
  ::kill(survivor, SIGKILL);
  support::wait_for(survivor);
}

TEST_CASE("every joiner learns of a death") {
  Books books;
  books.put();
  const Gate taken, gate;
  const pid_t pid = child([&] {
    books.get();
    taken.open();
    gate.wait();
    ::raise(SIGKILL);
  });
  CHECK(taken.wait());
  std::vector<std::string> answers(4);
  std::vector<std::thread> joiners;
  for (auto& answer : answers) joiners.emplace_back([&] { answer = books.join(); });
  support::await_sleepers(4);
  gate.open();
  for (auto& joiner : joiners) joiner.join();
  for (const auto& answer : answers) CHECK(answer == std::to_string(pid) + " owes 1");
  support::wait_for(pid);
}

TEST_CASE("an item whose producer died before the put is not waited for") {
  Books books;
  killed_after([&] {
    ++books.ledger.row().putting;
    books.ledger.expect(1);
  });
  CHECK(books.ledger.unfinished() == 1);
  CHECK(books.join() == "done");
  CHECK(books.ledger.unfinished() == 0);
}

TEST_CASE("an item that may have been taken by a dead process is owed by it") {
  Books books;
  books.put();
  const pid_t pid = killed_after([&] {
    ++books.ledger.row().taking;
    --*books.items;
  });
  CHECK(books.join() == std::to_string(pid) + " owes 1");
  CHECK(books.ledger.task_done());
  CHECK(books.join() == "done");
}

TEST_CASE("a process that died holding the ledger leaves it usable") {
  Books books;
  books.put();
  books.get();
  killed_after([&] { books.words->mutex.lock(posix::Deadline{brood::forever}, [] {}); });
  CHECK(books.ledger.task_done());
  CHECK(books.join() == "done");
}

TEST_CASE("the rows of dead processes are used again") {
  Books books;
  for (int i = 0; i < 20; ++i) {
    killed_after([&] {
      books.put();
      books.get();
      books.ledger.task_done();
    });
    killed_after([&] { ++books.ledger.row().putting; });
  }
  CHECK(books.words->rows_used <= 2);
}

TEST_CASE("a joiner and workers in other processes agree again and again") {
  const support::LeakCheck nothing_left;
  Books books;
  const Gate work;
  constexpr int workers = 3, rounds = 2000;
  const Shared<std::atomic<int>> refused;
  std::vector<pid_t> pids;
  for (int i = 0; i < workers; ++i)
    pids.push_back(child([&] {
      while (work.wait()) {
        books.get();
        if (!books.ledger.task_done()) ++*refused;
      }
    }));
  // Somebody who has died owing an item makes the joiner watch.
  killed_after([&] { ++books.ledger.row().putting; });
  int joined = 0;
  for (int i = 0; i < rounds; ++i) {
    for (int item = 0; item <= i % 3; ++item) {
      books.put();
      work.open();
    }
    joined += books.join() == "done" && *books.items == 0;
  }
  CHECK(joined == rounds);
  CHECK(*refused == 0);
  for (const pid_t pid : pids) {
    ::kill(pid, SIGKILL);
    support::wait_for(pid);
  }
}
