// SPDX-License-Identifier: MIT
// Who has taken what and not yet said that it is done: the count behind JoinableQueue::join(), kept
// so that what a dead process owed is found and named.
//
// Word            | raised                       | lowered
// ----------------+------------------------------+---------------------------------------------
// unfinished      | before an item is put        | by task_done, under the mutex
// row.putting     | before `unfinished`          | after the put
// row.taking      | before looking for an item   | after the look, found or not
//                 | to a batch's size before the |
//                 | batch is taken               |
// row.leases      | after an item was taken      | by task_done, under the mutex
//
// A row belongs to one process and is raised by it alone. So if a process dies, its row shows what
// it owed (leases), and whether it was inside a put or a take, where one item, or a batch, is in
// doubt.
//
// A joiner takes a seat and looks out for all: for the settled event, and for the deaths of the
// rows' owners. The event says that nothing is unfinished, or that a process is new. Once somebody
// has died, the joiner must also learn when nobody alive is at an item any more, so it sets
// `watched`, and then everything that lowers a word sets the event.
#pragma once

#include <atomic>
#include <cstdint>

#include "../posix/event_fd.hpp"
#include "../posix/list.hpp"
#include "../posix/process_identity.hpp"
#include "../posix/robust_mutex.hpp"

namespace brood::sync {

struct LedgerRow {
  std::atomic<std::uint64_t> owner;  // a ProcessIdentity; set under the mutex
  std::atomic<std::int64_t> leases;
  std::atomic<std::uint32_t> putting;
  std::atomic<std::uint32_t> taking;
};

/// The shared words; zero-filled memory is a ledger without entries once the mutex is made.
struct LedgerWords {
  static constexpr std::size_t max_rows = 2048;

  posix::RobustMutex mutex;
  posix::RobustMutex joiners_seat;
  std::atomic<std::int64_t> unfinished;
  std::atomic<std::uint32_t> watched;
  std::atomic<std::uint32_t> settled_signalled;  // whether the event is readable, as in Ring
  std::atomic<std::uint32_t> rows_used;
  LedgerRow rows[max_rows];
};

/// One process's part in the work that is left.
struct Debt {
  posix::ProcessIdentity owner;
  std::int64_t count;
  bool alive;
};

class Ledger {
 public:
  explicit Ledger(LedgerWords& words) : words_{words} {}
  /// That of another process, with the event of its settled_fd().
  Ledger(LedgerWords& words, posix::EventFd settled) noexcept
      : words_{words}, settled_{std::move(settled)} {}

  int settled_fd() const noexcept { return settled_.get(); }

  /// What a put or a take raises for its duration.
  class Mark {
   public:
    Mark(Ledger& ledger, std::atomic<std::uint32_t>& mark) noexcept : ledger_{ledger}, mark_{mark} {
      ++mark_;
    }
    ~Mark() {
      --mark_;
      // Sequentially consistent, as the joiner's store of it and load of the mark.
      if (ledger_.words_.watched.load() != 0) ledger_.settled_.set();
    }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Ledger& ledger_;
    std::atomic<std::uint32_t>& mark_;
  };

  /// This process's row. Throws os::OSError when more processes use the queue than it has rows.
  LedgerRow& row() {
    const std::uint64_t cached = cached_row_.load(std::memory_order_relaxed);
    const std::uint64_t forks = posix::this_process() >> 32;
    if (cached >> 32 == forks + 1) return words_.rows[cached & 0xffffffff];
    const std::size_t index = claim_row();
    cached_row_.store((forks + 1) << 32 | index, std::memory_order_relaxed);
    return words_.rows[index];
  }

  /// Counts items, before they are put; or takes that back: they were not put, or nobody will get
  /// them.
  void expect(std::int64_t count) noexcept { words_.unfinished += count; }
  void withdraw(std::int64_t count) {
    const Locked lock{*this};
    settle(count);
  }

  std::int64_t unfinished() const noexcept { return words_.unfinished.load(); }

  /// One item is done: of this process if it has one, else of a dead one, else of any. False if
  /// nothing is unfinished.
  bool task_done() {
    LedgerRow& own = row();
    const Locked lock{*this};
    if (words_.unfinished.load() <= 0) return false;
    LedgerRow* debtor = own.leases.load() > 0 ? &own : nullptr;
    if (debtor == nullptr) {
      for (LedgerRow& other : used_rows()) {
        if (other.leases.load() <= 0) continue;
        debtor = &other;
        if (!identity(other).open()) break;
      }
    }
    if (debtor != nullptr)
      --debtor->leases;
    else
      forgive_doubt();
    settle(1);
    return true;
  }

  /// The processes that have taken items and not settled them.
  posix::List<Debt> debts() {
    const Locked lock{*this};
    posix::List<Debt> result;
    for (LedgerRow& row : used_rows()) {
      const std::int64_t leases = row.leases.load();
      if (leases > 0)
        result.push_back({identity(row), leases, static_cast<bool>(identity(row).open())});
    }
    return result;
  }

  /// Waits until nothing is unfinished (true), or the deadline (false). Calls
  /// `stuck(pid, count)`, which throws, when what is left is owed by dead processes alone: `pid` is
  /// one of them, and nothing lies in the queue (`queue_empty()`) for anybody else to take.
  template <class QueueEmpty, class Stuck>
  bool join(const posix::Deadline& deadline, QueueEmpty queue_empty, Stuck stuck) {
    if (unfinished() <= 0) return true;
    // Every now and then also those behind the seat look, as who is in it may have been stopped.
    while (!words_.joiners_seat.lock(deadline.sooner(posix::RobustMutex::watchdog),
                                     posix::NoRepair{})) {
      if (unfinished() <= 0) return true;
      if (deadline.expired()) return false;
    }
    const JoinersSeat seat{words_};
    for (;;) {
      posix::List<posix::unique_fd> owners;
      const Outlook outlook = look(owners, queue_empty);
      if (outlook.all_done) return true;
      if (outlook.dead_claims > 0 && outlook.nobody_is_at_it)
        stuck(outlook.dead, outlook.dead_claims);
      if (outlook.look_again) continue;
      posix::List<pollfd> entries;
      entries.push_back({settled_.get(), POLLIN, 0});
      for (const auto& owner : owners)
        if (owner) entries.push_back({owner.get(), POLLIN, 0});
      if (posix::poll_until(entries.data(), entries.size(), deadline) == 0)
        return unfinished() <= 0;
    }
  }

 private:
  struct Outlook {
    bool all_done = false;
    bool nobody_is_at_it = false;
    bool look_again = false;
    pid_t dead = 0;  // the last of those that died with claims
    std::int64_t dead_claims = 0;
  };

  // Fills `owners` with a descriptor of each living owner but this process.
  template <class QueueEmpty>
  Outlook look(posix::List<posix::unique_fd>& owners, QueueEmpty queue_empty) {
    Outlook result;
    const Locked lock{*this};
    words_.settled_signalled.store(0);
    settled_.clear();
    const std::int64_t before = unfinished();
    result.all_done = before <= 0;
    if (result.all_done) return result;
    // Looks at the words in the order in which an item goes through them: putting, the queue,
    // taking, leases. Only the last leads out, under the mutex that is held here. So no item can
    // pass behind the look; one that is put after it began shows in `unfinished`.
    bool somebody_is_at_it = false;
    bool somebody_died = false;
    for (LedgerRow& row : used_rows()) {
      owners.push_back(identity(row).open());
      if (row.putting.load() == 0) continue;
      (owners.back() ? somebody_is_at_it : somebody_died) = true;
    }
    const bool nothing_lies_there = queue_empty();
    const posix::unique_fd* owner = owners.data();
    for (LedgerRow& row : used_rows()) {
      const bool lives = static_cast<bool>(*owner++);
      const std::int64_t claims = row.taking.load() + row.leases.load();
      if (claims == 0) continue;
      (lives ? somebody_is_at_it : somebody_died) = true;
      if (lives) continue;
      result.dead = identity(row).pid();
      result.dead_claims += claims;
    }
    if (somebody_died && words_.watched.exchange(1) == 0) {
      result.look_again = true;
      return result;
    }
    if (somebody_is_at_it || !nothing_lies_there) return result;
    if (unfinished() != before) {
      result.look_again = true;
      return result;
    }
    // What no living process is at, that lies nowhere, and that no dead one took, was counted by a
    // producer that died before its put.
    if (result.dead_claims > before) result.dead_claims = before;
    if (before > result.dead_claims) settle(before - result.dead_claims);
    result.nobody_is_at_it = true;
    result.all_done = result.dead_claims == 0;
    return result;
  }

  class Locked {
   public:
    explicit Locked(Ledger& ledger) : ledger_{&ledger} {
      ledger.words_.mutex.lock(posix::Deadline{forever}, [&ledger] {
        ledger.words_.watched.store(1);
        ledger.signal_settled();
      });
    }
    ~Locked() { release(); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    void release() noexcept {
      if (ledger_ != nullptr) ledger_->words_.mutex.unlock();
      ledger_ = nullptr;
    }

   private:
    Ledger* ledger_;
  };

  // Of a joiner that has locked it.
  class JoinersSeat {
   public:
    explicit JoinersSeat(LedgerWords& words) noexcept : words_{words} {}
    ~JoinersSeat() {
      words_.watched.store(0);
      words_.joiners_seat.unlock();
    }
    JoinersSeat(const JoinersSeat&) = delete;
    JoinersSeat& operator=(const JoinersSeat&) = delete;

   private:
    LedgerWords& words_;
  };

  struct Rows {
    LedgerRow* first;
    LedgerRow* last;
    LedgerRow* begin() const noexcept { return first; }
    LedgerRow* end() const noexcept { return last; }
  };
  Rows used_rows() noexcept { return {words_.rows, words_.rows + words_.rows_used.load()}; }

  static posix::ProcessIdentity identity(const LedgerRow& row) noexcept {
    return posix::ProcessIdentity{row.owner.load()};
  }

  // With the mutex held. Somebody settles what a process that died inside a take may have taken.
  void forgive_doubt() {
    for (LedgerRow& row : used_rows()) {
      if (row.taking.load() == 0 || identity(row).open()) continue;
      --row.taking;
      return;
    }
  }

  // With the mutex held. The event goes first: if this process dies here, joiners look in vain.
  void settle(std::int64_t count) {
    if (words_.unfinished.load() <= count || words_.watched.load() != 0) signal_settled();
    words_.unfinished -= count;
  }
  void signal_settled() noexcept {
    if (words_.settled_signalled.load() != 0) return;
    settled_.set();
    words_.settled_signalled.store(1);
  }

  std::size_t claim_row() {
    const auto self = posix::ProcessIdentity::of(posix::this_pid());
    const Locked lock{*this};
    // Joiners wait for the deaths of those they know: have them look again.
    signal_settled();
    const std::size_t used = words_.rows_used.load();
    for (std::size_t i = 0; i < used; ++i)
      if (identity(words_.rows[i]) == self) return i;
    for (std::size_t i = 0; i < used; ++i) {
      LedgerRow& row = words_.rows[i];
      // With nothing unfinished, nothing is in doubt.
      if (unfinished() > 0 &&
          (row.leases.load() != 0 || row.taking.load() != 0 || row.putting.load() != 0))
        continue;
      if (identity(row).open()) continue;
      row.leases.store(0);
      row.taking.store(0);
      row.putting.store(0);
      row.owner.store(self.word());
      return i;
    }
    if (used == LedgerWords::max_rows)
      posix::throw_os_error(ENOSPC, "use a joinable queue from more than 2048 processes");
    words_.rows[used].owner.store(self.word());
    words_.rows_used.store(static_cast<std::uint32_t>(used + 1));
    return used;
  }

  LedgerWords& words_;
  posix::EventFd settled_;
  // The index of the row that this process has claimed; above it the forks of this_process() and
  // one. (Not its pid: a copy of a copy may have the same.)
  std::atomic<std::uint64_t> cached_row_{0};
};

}  // namespace brood::sync
