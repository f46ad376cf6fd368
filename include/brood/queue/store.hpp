// SPDX-License-Identifier: MIT
// What a queue holds, in each of the three orders. No user code but comparisons runs under a
// queue's locks: an item whose type is known to run none when it is moved lies in the store itself,
// any other in a box of its own, made before the lock is taken and emptied after it is released.
//
// A store gives: push(parcel), pop(parcel), put_back(parcel) of what was popped, take_all(Items&)
// into an empty one; the destructor of Items destroys what it holds. It takes over the item of a
// parcel, which is then told to forget it. Who pops knows that something is there. If a store is
// `two_ended`, one thread may push while another pops what was pushed before. It has room for what
// State keeps at each end, `front` and `back`, beside what it keeps there itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>  // std::less, which <functional> would bring in too
#include <utility>
#include <vector>

#include "../posix/exchange.hpp"
#include "../sync/wait_list.hpp"
#include "../sync/word_lock.hpp"

namespace brood::queue {

/// Whether items are moved by copying their bytes.
template <class T>
inline constexpr bool moved_as_bytes = std::is_trivially_copyable_v<T>&&
    std::is_trivially_move_constructible_v<T>&& std::is_trivially_destructible_v<T>;

/// Whether moving an item, and destroying what is left of it, runs nobody's code and throws
/// nothing: of bytes, and of what the standard library makes of such.
template <class T>
inline constexpr bool moves_quietly = moved_as_bytes<T>;
template <class C>
inline constexpr bool moves_quietly<std::basic_string<C>> = true;
template <class T>  // of whatever: that stays where it is
inline constexpr bool moves_quietly<std::vector<T>> = true;
template <class T>
inline constexpr bool moves_quietly<std::optional<T>> = moves_quietly<T>;
template <class T, class U>
inline constexpr bool moves_quietly<std::pair<T, U>> = moves_quietly<T>&& moves_quietly<U>;

/// Whether items lie in the store.
template <class T>
inline constexpr bool lies_in_store = moves_quietly<T> && sizeof(T) <= 128;

/// An item outside of the store: it owns one, or none.
template <class T, bool in_store = lies_in_store<T>>
class Parcel {
 public:
  /// What a store holds of an item; its owner is the store. Moving it throws nothing.
  using Held = T*;

  Parcel() noexcept = default;
  template <class U>
  Parcel(std::in_place_t, U&& item) : item_{new T(std::forward<U>(item))} {}
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;
  ~Parcel() { delete item_; }

  bool has_item() const noexcept { return item_ != nullptr; }
  T& item() noexcept { return *item_; }

  Held& held() noexcept { return item_; }
  void accept(Held& held) noexcept { item_ = held; }
  void forget() noexcept { item_ = nullptr; }

  static const T& look(const Held& held) noexcept { return *held; }
  /// Destroys the item of what is about to be destroyed itself.
  static void discard(Held& held) noexcept { delete held; }

  std::uint64_t arrival = 0;  // PriorityStore's

 private:
  T* item_ = nullptr;
};

template <class T>
class Parcel<T, true> {
 public:
  // Moved by construction alone: the type may have no assignment.
  struct Held {
    template <class U>
    Held(std::in_place_t, U&& from) : item(std::forward<U>(from)) {}
    Held(Held&& other) noexcept : item(std::move(other.item)) {}
    Held& operator=(Held&& other) noexcept {
      item.~T();
      ::new (static_cast<void*>(std::addressof(item))) T(std::move(other.item));
      return *this;
    }
    ~Held() = default;
    T item;
  };

  Parcel() noexcept {}
  template <class U>
  Parcel(std::in_place_t place, U&& item) : held_{place, std::forward<U>(item)}, has_item_{true} {}
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;
  ~Parcel() { forget(); }

  bool has_item() const noexcept { return has_item_; }
  T& item() noexcept { return held_.item; }

  Held& held() noexcept { return held_; }
  void accept(Held& held) noexcept {
    ::new (static_cast<void*>(&held_)) Held(std::move(held));
    has_item_ = true;
  }
  void forget() noexcept {
    if (posix::exchange(has_item_, false)) held_.~Held();
  }

  static const T& look(const Held& held) noexcept { return held.item; }
  static void discard(Held&) noexcept {}

  std::uint64_t arrival = 0;

 private:
  union {
    Held held_;
  };
  bool has_item_ = false;
};

/// What State keeps at an end of a queue. With what the store keeps there it lies in one cache
/// line: where threads take turns at an end, that line and the item's are all that moves between
/// them.
struct End {
  sync::WordLock lock;
  std::atomic<std::size_t> count{0};  // of what went in or came out here, modulo 2^n
  std::size_t seen = 0;               // the count of the other end as it was
  sync::WaitList waiting;             // for what the other end makes
};

/// First in, first out: a chain of blocks. The pushing thread writes at its tail, the popping one
/// reads at its head and hands a block that it has read through back to the other.
template <class T>
class FifoStore {
  using Held = typename Parcel<T>::Held;
  static constexpr std::size_t capacity = sizeof(Held) <= 64 ? 1024 / sizeof(Held) : 16;
  struct Block {
    Block() noexcept {}
    ~Block() {}
    union {
      Held slots[capacity];  // from the head to the tail there are items
    };
    Block* next = nullptr;
  };
  struct Returned {
    Held held;
    Returned* next;
  };
  struct Front : End {
    Block* block = nullptr;
    std::size_t used = 0;          // slots of it
    Returned* returned = nullptr;  // the newest first
  };
  struct Back : End {
    Block* block = nullptr;
    std::size_t used = 0;
    Block* first = nullptr;  // where the front begins
  };
  static_assert(sizeof(Front) <= 64 && sizeof(Back) <= 64);

 public:
  static constexpr bool two_ended = true;
  struct Items {
    Items() noexcept = default;
    Items(const Items&) = delete;
    Items& operator=(const Items&) = delete;
    ~Items() {
      while (returned != nullptr) {
        Parcel<T>::discard(returned->held);
        delete posix::exchange(returned, returned->next);
      }
      for (; block != nullptr; begin = 0) {
        for (const std::size_t stop = block == last ? end : capacity; begin < stop; ++begin) {
          Parcel<T>::discard(block->slots[begin]);
          block->slots[begin].~Held();
        }
        delete posix::exchange(block, block->next);
      }
    }
    Returned* returned = nullptr;
    Block* block = nullptr;  // the first one
    std::size_t begin = 0;   // where the items of that begin
    Block* last = nullptr;
    std::size_t end = 0;  // where the items of that end
  };

  FifoStore() noexcept = default;
  FifoStore(const FifoStore&) = delete;
  FifoStore& operator=(const FifoStore&) = delete;
  ~FifoStore() {
    Items items;
    take_all(items);
    delete spare_.load(std::memory_order_relaxed);
  }

  void push(Parcel<T>& parcel) {
    if (back.block == nullptr || back.used == capacity) {
      Block* block = spare_.exchange(nullptr, std::memory_order_acquire);
      if (block == nullptr) block = new Block;
      block->next = nullptr;
      (back.block == nullptr ? back.first : back.block->next) = block;
      back.block = block;
      back.used = 0;
    }
    ::new (static_cast<void*>(&back.block->slots[back.used++])) Held(std::move(parcel.held()));
  }

  void pop(Parcel<T>& parcel) noexcept {
    if (front.returned != nullptr) [[unlikely]] {
      parcel.accept(front.returned->held);
      delete posix::exchange(front.returned, front.returned->next);
      return;
    }
    if (front.block == nullptr) {
      front.block = back.first;
    } else if (front.used == capacity) {
      Block* const used_up = posix::exchange(front.block, front.block->next);
      delete spare_.exchange(used_up, std::memory_order_release);
      front.used = 0;
    }
    Held& held = front.block->slots[front.used++];
    parcel.accept(held);
    held.~Held();
  }

  void put_back(Parcel<T>& parcel) {
    front.returned = new Returned{std::move(parcel.held()), front.returned};
  }

  /// With nobody at either end.
  void take_all(Items& items) noexcept {
    items.returned = posix::exchange(front.returned, nullptr);
    items.block = front.block == nullptr ? back.first : front.block;
    items.begin = front.used;
    items.last = back.block;
    items.end = back.used;
    front.block = back.block = back.first = nullptr;
    front.used = 0;
  }

  alignas(64) Front front;
  alignas(64) Back back;

 private:
  alignas(64) std::atomic<Block*> spare_{nullptr};
};

/// Last in, first out.
template <class T>
class LifoStore {
  using Held = typename Parcel<T>::Held;

 public:
  static constexpr bool two_ended = false;
  using Items = LifoStore;

  LifoStore() noexcept = default;
  LifoStore(const LifoStore&) = delete;
  LifoStore& operator=(const LifoStore&) = delete;
  ~LifoStore() {
    while (!stack_.empty()) {
      Parcel<T>::discard(stack_.back());
      stack_.pop_back();
    }
  }

  void push(Parcel<T>& parcel) { stack_.push_back(std::move(parcel.held())); }
  void pop(Parcel<T>& parcel) noexcept {
    parcel.accept(stack_.back());
    stack_.pop_back();
  }
  void put_back(Parcel<T>& parcel) { push(parcel); }
  void take_all(LifoStore& other) noexcept { stack_.swap(other.stack_); }

  End front, back;

 private:
  std::vector<Held> stack_;
};

/// Smallest first, in the order of arrival where neither is smaller: a binary heap. What the
/// comparison throws passes out of push() and pop(), which then have changed nothing: they find
/// their way by comparing, and move things only afterwards.
template <class T, class Compare>
class PriorityStore {
  using Held = typename Parcel<T>::Held;

 public:
  static constexpr bool two_ended = false;
  struct Entry {
    Entry(Held& its_held, std::uint64_t its_arrival) noexcept
        : held{std::move(its_held)}, arrival{its_arrival} {}
    Held held;
    std::uint64_t arrival;
  };
  struct Items {
    Items() noexcept = default;
    Items(const Items&) = delete;
    Items& operator=(const Items&) = delete;
    ~Items() {
      for (Entry& entry : heap) Parcel<T>::discard(entry.held);
    }
    std::vector<Entry> heap;
  };

  explicit PriorityStore(const Compare& compare) : compare_(compare) {}

  void push(Parcel<T>& parcel) {
    insert(parcel, arrivals_ + 1);
    ++arrivals_;
  }

  void pop(Parcel<T>& parcel) {
    // The last entry fills the hole at the root: the smaller child moves up as long as it comes
    // before that entry.
    std::vector<Entry>& heap = items_.heap;
    Entry& last = heap.back();
    const std::size_t size = heap.size() - 1;
    std::size_t path[64];  // holes, from the root down: no heap is deeper
    std::size_t depth = 0;
    std::size_t hole = 0;
    for (;;) {
      path[depth++] = hole;
      std::size_t child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1], heap[child])) ++child;
      if (!before(heap[child], last)) break;
      hole = child;
    }
    parcel.accept(heap.front().held);
    parcel.arrival = heap.front().arrival;
    for (std::size_t i = 0; i + 1 < depth; ++i) heap[path[i]] = std::move(heap[path[i + 1]]);
    if (hole != size) heap[hole] = std::move(last);
    heap.pop_back();
  }

  void put_back(Parcel<T>& parcel) { insert(parcel, parcel.arrival); }

  void take_all(Items& other) noexcept { items_.heap.swap(other.heap); }

  End front, back;

 private:
  void insert(Parcel<T>& parcel, std::uint64_t arrival) {
    std::vector<Entry>& heap = items_.heap;
    std::size_t target = heap.size();
    while (target > 0) {
      const std::size_t parent = (target - 1) / 2;
      if (!before(parcel.held(), arrival, heap[parent])) break;
      target = parent;
    }
    heap.emplace_back(parcel.held(), arrival);  // which takes nothing if it throws
    std::size_t hole = heap.size() - 1;
    if (hole == target) return;
    Entry entry = std::move(heap[hole]);
    for (; hole != target; hole = (hole - 1) / 2) heap[hole] = std::move(heap[(hole - 1) / 2]);
    heap[target] = std::move(entry);
  }

  bool before(const Entry& left, const Entry& right) {
    return before(left.held, left.arrival, right);
  }
  bool before(const Held& left, std::uint64_t arrival, const Entry& right) {
    const T& a = Parcel<T>::look(left);
    const T& b = Parcel<T>::look(right.held);
    if (compare_(a, b)) return true;
    if (compare_(b, a)) return false;
    return arrival < right.arrival;
  }

  Compare compare_;
  Items items_;
  std::uint64_t arrivals_ = 0;
};

}  // namespace brood::queue
