// SPDX-License-Identifier: MIT
// A growing array for the library's own use: each distinct std::vector<T> costs everybody who
// includes a header that has one some ten milliseconds, this costs none.
#pragma once

#include <cstddef>
#include <new>

#include "exchange.hpp"

namespace brood::posix {

/// As std::vector<T>. Grows by moving its elements, whose moves must not throw; copies by copy().
template <class T>
class List {
 public:
  List() noexcept = default;
  /// `size` elements, each T{}.
  explicit List(std::size_t size) : data_{allocate(size)}, capacity_{size} {
    while (size_ < size) append();
  }
  List(List&& other) noexcept { swap(other); }
  List& operator=(List&& other) noexcept {
    List{static_cast<List&&>(other)}.swap(*this);
    return *this;
  }
  ~List() {
    clear();
    if (data_ != nullptr) ::operator delete(data_);  // a call less, see posix::bound_at_load
  }

  List copy() const {
    List result;
    result.reserve(size_);
    for (const T& element : *this) result.append(element);
    return result;
  }
  void swap(List& other) noexcept {
    posix::swap(data_, other.data_);
    posix::swap(size_, other.size_);
    posix::swap(capacity_, other.capacity_);
  }

  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }
  T* data() noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](std::size_t at) noexcept { return data_[at]; }
  const T& operator[](std::size_t at) const noexcept { return data_[at]; }
  T& back() noexcept { return data_[size_ - 1]; }

  void push_back(T element) {
    if (size_ == capacity_) reserve(size_ < 4 ? 4 : 2 * size_);
    append(static_cast<T&&>(element));
  }
  void pop_back() noexcept { data_[--size_].~T(); }
  void clear() noexcept {
    while (!empty()) pop_back();
  }
  /// The last element takes its place.
  void erase_unordered(T* element) noexcept {
    if (element != &back()) *element = static_cast<T&&>(back());
    pop_back();
  }
  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    List grown;
    grown.data_ = allocate(capacity);
    grown.capacity_ = capacity;
    for (T& element : *this) grown.append(static_cast<T&&>(element));
    swap(grown);
  }

 private:
  static T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T)));  // NOLINT: T may be a pointer
  }
  template <class... Args>
  void append(Args&&... args) {
    ::new (static_cast<void*>(data_ + size_)) T{static_cast<Args&&>(args)...};
    ++size_;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace brood::posix
