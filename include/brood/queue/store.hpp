// SPDX-License-Identifier: MIT
// What a queue holds, in each of the three orders. No user code but comparisons runs under a
// queue's locks: an item that copies as bytes lies in the store itself, any other in a box of its
// own, made before the lock is taken and emptied after it is released.
//
// A store gives: push(parcel), pop(parcel), put_back(parcel) of what was popped, take_all(Items&)
// into an empty one; the destructor of Items destroys what it holds. It takes over the item of a
// parcel, which is then told to forget it. Who pops knows that something is there. If a store is
// `two_ended`, one thread may push while another pops what was pushed before.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>  // std::less, which <functional> would bring in too
#include <vector>

#include "../posix/exchange.hpp"

namespace brood::queue {

/// Whether items lie in the store as bytes.
template <class T>
inline constexpr bool stored_as_bytes =
    std::is_trivially_copyable_v<T>&& std::is_trivially_move_constructible_v<T>&&
        std::is_trivially_destructible_v<T> &&
    sizeof(T) <= 128;

/// An item outside of the store: it owns one, or none.
template <class T, bool as_bytes = stored_as_bytes<T>>
class Parcel {
 public:
  /// What a store holds of an item; its owner is the store.
  using Held = T*;

  Parcel() noexcept = default;
  template <class U>
  Parcel(std::in_place_t, U&& item) : item_{new T(std::forward<U>(item))} {}
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;
  ~Parcel() { delete item_; }

  bool has_item() const noexcept { return item_ != nullptr; }
  T& item() noexcept { return *item_; }

  Held held() const noexcept { return item_; }
  void accept(Held held) noexcept { item_ = held; }
  void forget() noexcept { item_ = nullptr; }

  static const T& look(const Held& held) noexcept { return *held; }
  static void destroy(Held held) noexcept { delete held; }

  std::uint64_t arrival = 0;  // PriorityStore's

 private:
  T* item_ = nullptr;
};

template <class T>
class Parcel<T, true> {
 public:
  struct Held {
    alignas(T) unsigned char bytes[sizeof(T)];
  };

  Parcel() noexcept = default;
  template <class U>
  Parcel(std::in_place_t, U&& item) : has_item_{true} {
    ::new (static_cast<void*>(held_.bytes)) T(std::forward<U>(item));
  }
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;

  bool has_item() const noexcept { return has_item_; }
  T& item() noexcept { return *std::launder(reinterpret_cast<T*>(held_.bytes)); }

  const Held& held() const noexcept { return held_; }
  void accept(const Held& held) noexcept {
    held_ = held;
    has_item_ = true;
  }
  void forget() noexcept { has_item_ = false; }

  static const T& look(const Held& held) noexcept {
    return *std::launder(reinterpret_cast<const T*>(held.bytes));
  }
  static void destroy(const Held&) noexcept {}

  std::uint64_t arrival = 0;

 private:
  Held held_;
  bool has_item_ = false;
};

/// First in, first out: a chain of blocks. The pushing thread writes at its tail, the popping one
/// reads at its head and hands a block that it has read through back to the other.
template <class T>
class FifoStore {
  using Held = typename Parcel<T>::Held;

 public:
  static constexpr bool two_ended = true;
  using Items = FifoStore;

  FifoStore() noexcept = default;
  FifoStore(const FifoStore&) = delete;
  FifoStore& operator=(const FifoStore&) = delete;
  ~FifoStore() {
    for (std::size_t left = pushed_ - popped_; left > 0; --left) Parcel<T>::destroy(pop_oldest());
    while (returned_ != nullptr) {
      Parcel<T>::destroy(returned_->held);
      delete posix::exchange(returned_, returned_->next);
    }
    delete head_;
    delete spare_.load(std::memory_order_relaxed);
  }

  void push(const Parcel<T>& parcel) {
    if (tail_ == nullptr || tail_end_ == capacity) {
      Block* block = spare_.exchange(nullptr, std::memory_order_acquire);
      if (block == nullptr) block = new Block;
      block->next = nullptr;
      (tail_ == nullptr ? first_ : tail_->next) = block;
      tail_ = block;
      tail_end_ = 0;
    }
    tail_->slots[tail_end_++] = parcel.held();
    ++pushed_;
  }

  void pop(Parcel<T>& parcel) noexcept {
    if (returned_ != nullptr) [[unlikely]] {
      parcel.accept(returned_->held);
      delete posix::exchange(returned_, returned_->next);
    } else {
      parcel.accept(pop_oldest());
    }
  }

  void put_back(const Parcel<T>& parcel) { returned_ = new Returned{parcel.held(), returned_}; }

  /// With nobody at either end.
  void take_all(FifoStore& other) noexcept {
    posix::swap(first_, other.first_);
    posix::swap(head_, other.head_);
    posix::swap(head_end_, other.head_end_);
    posix::swap(popped_, other.popped_);
    posix::swap(returned_, other.returned_);
    posix::swap(tail_, other.tail_);
    posix::swap(tail_end_, other.tail_end_);
    posix::swap(pushed_, other.pushed_);
  }

 private:
  static constexpr std::size_t capacity = sizeof(Held) <= 64 ? 1024 / sizeof(Held) : 16;
  struct Block {
    Held slots[capacity];
    Block* next;
  };
  struct Returned {
    Held held;
    Returned* next;
  };

  const Held& pop_oldest() noexcept {
    if (head_ == nullptr) {
      head_ = first_;
    } else if (head_end_ == capacity) {
      Block* const used_up = posix::exchange(head_, head_->next);
      delete spare_.exchange(used_up, std::memory_order_release);
      head_end_ = 0;
    }
    ++popped_;
    return head_->slots[head_end_++];
  }

  // The popping thread's.
  alignas(64) Block* head_ = nullptr;
  std::size_t head_end_ = 0;
  std::size_t popped_ = 0;
  Returned* returned_ = nullptr;  // the newest first
  // The pushing thread's.
  alignas(64) Block* tail_ = nullptr;
  std::size_t tail_end_ = 0;
  std::size_t pushed_ = 0;
  Block* first_ = nullptr;  // where head_ begins
  std::atomic<Block*> spare_{nullptr};
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
      Parcel<T>::destroy(stack_.back());
      stack_.pop_back();
    }
  }

  void push(const Parcel<T>& parcel) { stack_.push_back(parcel.held()); }
  void pop(Parcel<T>& parcel) noexcept {
    parcel.accept(stack_.back());
    stack_.pop_back();
  }
  void put_back(const Parcel<T>& parcel) { push(parcel); }
  void take_all(LifoStore& other) noexcept { stack_.swap(other.stack_); }

 private:
  std::vector<Held> stack_;
};

/// Smallest first, in the order of arrival where neither is smaller: a binary heap. What the
/// comparison throws passes out of push() and pop(), which then have changed nothing: they find
/// their way by comparing, and move things only afterwards.
template <class T, class Compare>
class PriorityStore {
 public:
  static constexpr bool two_ended = false;
  struct Entry {
    typename Parcel<T>::Held held;
    std::uint64_t arrival;
  };
  struct Items {
    Items() noexcept = default;
    Items(const Items&) = delete;
    Items& operator=(const Items&) = delete;
    ~Items() {
      for (const Entry& entry : heap) Parcel<T>::destroy(entry.held);
    }
    std::vector<Entry> heap;
  };

  explicit PriorityStore(const Compare& compare) : compare_(compare) {}

  void push(const Parcel<T>& parcel) {
    insert({parcel.held(), arrivals_ + 1});
    ++arrivals_;
  }

  void pop(Parcel<T>& parcel) {
    // The last entry fills the hole at the root: the smaller child moves up as long as it comes
    // before that entry.
    const Entry last = items_.heap.back();
    const std::size_t size = items_.heap.size() - 1;
    std::size_t path[64];  // holes, from the root down: no heap is deeper
    std::size_t depth = 0;
    std::size_t hole = 0;
    for (;;) {
      path[depth++] = hole;
      std::size_t child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size && before(items_.heap[child + 1], items_.heap[child])) ++child;
      if (!before(items_.heap[child], last)) break;
      hole = child;
    }
    parcel.accept(items_.heap.front().held);
    parcel.arrival = items_.heap.front().arrival;
    for (std::size_t i = 0; i + 1 < depth; ++i) items_.heap[path[i]] = items_.heap[path[i + 1]];
    items_.heap[hole] = last;
    items_.heap.pop_back();
  }

  void put_back(const Parcel<T>& parcel) { insert({parcel.held(), parcel.arrival}); }

  void take_all(Items& other) noexcept { items_.heap.swap(other.heap); }

 private:
  void insert(const Entry& entry) {
    std::size_t target = items_.heap.size();
    while (target > 0 && before(entry, items_.heap[(target - 1) / 2])) target = (target - 1) / 2;
    items_.heap.push_back(entry);
    std::size_t hole = items_.heap.size() - 1;
    while (hole != target) {
      items_.heap[hole] = items_.heap[(hole - 1) / 2];
      hole = (hole - 1) / 2;
    }
    items_.heap[target] = entry;
  }

  bool before(const Entry& left, const Entry& right) {
    const T& a = Parcel<T>::look(left.held);
    const T& b = Parcel<T>::look(right.held);
    if (compare_(a, b)) return true;
    if (compare_(b, a)) return false;
    return left.arrival < right.arrival;
  }

  Compare compare_;
  Items items_;
  std::uint64_t arrivals_ = 0;
};

}  // namespace brood::queue
