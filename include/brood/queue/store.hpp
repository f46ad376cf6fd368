// SPDX-License-Identifier: MIT
// What a queue holds, in each of the three orders. An item lies in a node of its own, made before
// the queue's lock is taken and emptied after it is released, so that no copying, moving or
// destroying of items happens under it.
//
// A store gives: push(node), pop() -> the next node, put_back(node) for a popped one, take_all() ->
// a chain, empty(). Who has a node owns it. All but PriorityStore's calls cannot fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>  // std::less, which <functional> would bring in too
#include <utility>
#include <vector>

namespace brood::queue {

template <class T>
struct Node {
  template <class U>
  explicit Node(U&& u) : item(std::forward<U>(u)) {}

  T item;
  Node* next = nullptr;
  std::uint64_t arrival = 0;
};

/// Owns one node, or a chain of them.
template <class T>
class NodeOwner {
 public:
  explicit NodeOwner(Node<T>* first = nullptr) noexcept : first_{first} {}
  NodeOwner(const NodeOwner&) = delete;
  NodeOwner& operator=(const NodeOwner&) = delete;
  ~NodeOwner() {
    while (first_ != nullptr) delete std::exchange(first_, first_->next);
  }

  Node<T>* operator->() const noexcept { return first_; }
  Node<T>* get() const noexcept { return first_; }
  void reset(Node<T>* node) noexcept { first_ = node; }
  Node<T>* release() noexcept { return std::exchange(first_, nullptr); }

 private:
  Node<T>* first_;
};

/// First in, first out.
template <class T>
class FifoStore {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push(Node<T>* node) noexcept {
    (first_ == nullptr ? first_ : last_->next) = node;
    last_ = node;
  }
  Node<T>* pop() noexcept {
    Node<T>* const node = std::exchange(first_, first_->next);
    node->next = nullptr;
    return node;
  }
  void put_back(Node<T>* node) noexcept {
    if (first_ == nullptr) last_ = node;
    node->next = std::exchange(first_, node);
  }
  Node<T>* take_all() noexcept { return std::exchange(first_, nullptr); }

 private:
  Node<T>* first_ = nullptr;
  Node<T>* last_ = nullptr;  // valid when there is a first
};

/// Last in, first out.
template <class T>
class LifoStore {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push(Node<T>* node) noexcept { node->next = std::exchange(first_, node); }
  Node<T>* pop() noexcept {
    Node<T>* const node = std::exchange(first_, first_->next);
    node->next = nullptr;
    return node;
  }
  void put_back(Node<T>* node) noexcept { push(node); }
  Node<T>* take_all() noexcept { return std::exchange(first_, nullptr); }

 private:
  Node<T>* first_ = nullptr;
};

/// Smallest first; equals in order of arrival. A binary heap of nodes. Compare may throw: all
/// comparisons of a call come before its first change, so then nothing has happened.
template <class T, class Compare>
class PriorityStore {
 public:
  explicit PriorityStore(const Compare& compare) : compare_(compare) {}

  bool empty() const noexcept { return heap_.empty(); }

  void push(Node<T>* node) {
    node->arrival = arrivals_ + 1;
    insert(node);
    ++arrivals_;
  }

  Node<T>* pop() {
    Node<T>* const smallest = heap_.front();
    // The last node fills the hole at the root: the smaller child moves up as long as it comes
    // before that node.
    Node<T>* const last = heap_.back();
    const std::size_t size = heap_.size() - 1;
    std::size_t path[64];  // holes, from the root down: no heap is deeper
    std::size_t depth = 0;
    std::size_t hole = 0;
    for (;;) {
      path[depth++] = hole;
      std::size_t child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap_[child + 1], heap_[child])) ++child;
      if (!before(heap_[child], last)) break;
      hole = child;
    }
    for (std::size_t i = 0; i + 1 < depth; ++i) heap_[path[i]] = heap_[path[i + 1]];
    heap_[hole] = last;
    heap_.pop_back();
    return smallest;
  }

  void put_back(Node<T>* node) { insert(node); }

  Node<T>* take_all() noexcept {
    Node<T>* first = nullptr;
    for (Node<T>* node : heap_) node->next = std::exchange(first, node);
    heap_.clear();
    return first;
  }

 private:
  void insert(Node<T>* node) {
    std::size_t target = heap_.size();
    while (target > 0 && before(node, heap_[(target - 1) / 2])) target = (target - 1) / 2;
    heap_.push_back(node);
    std::size_t hole = heap_.size() - 1;
    while (hole != target) {
      heap_[hole] = heap_[(hole - 1) / 2];
      hole = (hole - 1) / 2;
    }
    heap_[target] = node;
  }

  bool before(const Node<T>* left, const Node<T>* right) {
    if (compare_(left->item, right->item)) return true;
    if (compare_(right->item, left->item)) return false;
    return left->arrival < right->arrival;
  }

  Compare compare_;
  std::vector<Node<T>*> heap_;
  std::uint64_t arrivals_ = 0;
};

}  // namespace brood::queue
