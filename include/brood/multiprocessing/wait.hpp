// SPDX-License-Identifier: MIT
// Waiting for several things at once. Python counterpart: multiprocessing.connection.wait.
//
//     std::vector<mp::Connection> readers = ...;
//     while (!readers.empty())
//       for (const mp::Connection& reader : mp::connection::wait(readers)) ...
//
//     for (const auto& ready : mp::connection::wait({connection, process, queue}, 1s))
//       if (ready == connection) ...
#pragma once

#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include "../posix/list.hpp"
#include "../posix/poll.hpp"
#include "../posix/ref.hpp"

namespace brood::multiprocessing::connection {

/// What can be waited for: a Connection (a message or the end), a Process (its end), a queue (an
/// item), a descriptor as an int (that it is readable); anything with a fileno() or a sentinel().
template <class T>
concept HasDescriptor = std::is_same_v<T, int> || requires(const T& thing) {
  { thing.fileno() } -> std::same_as<int>;
} || requires(const T& thing) {
  { thing.sentinel() } -> std::same_as<int>;
};

/// The descriptor to poll for a thing. Throws what its fileno() or sentinel() does.
template <HasDescriptor T>
int descriptor(const T& thing) {
  if constexpr (std::is_same_v<T, int>)
    return thing;
  else if constexpr (requires { thing.fileno(); })
    return thing.fileno();
  else
    return thing.sentinel();
}

/// Any of them, for waiting for a mixture. Holds a copy; compares equal to the thing it was made
/// of.
class Waitable {
 public:
  template <class T>
  requires(HasDescriptor<T> && !std::is_same_v<T, Waitable>) Waitable(const T& thing)  // NOLINT
      : thing_{posix::make_ref<Copy<T>>(thing)} {}

  int fileno() const { return thing_->fileno(); }

  template <class T>
  requires(HasDescriptor<T> && !std::is_same_v<T, Waitable>) bool operator==(const T& thing) const {
    return thing_->is(&type_mark<T>, &thing);
  }
  /// Whether both were made of the same thing.
  bool operator==(const Waitable& other) const { return thing_->equals(*other.thing_); }

 private:
  template <class T>
  static constexpr char type_mark = 0;

  struct Thing : posix::RefCounted {
    virtual ~Thing() = default;
    virtual int fileno() const = 0;
    virtual bool is(const char* type, const void* thing) const = 0;
    virtual bool equals(const Thing& other) const = 0;
  };
  template <class T>
  struct Copy final : Thing {
    explicit Copy(const T& copied) : copy{copied} {}
    int fileno() const override { return connection::descriptor(copy); }
    bool is(const char* type, const void* thing) const override {
      return type == &type_mark<T> && *static_cast<const T*>(thing) == copy;
    }
    bool equals(const Thing& other) const override { return other.is(&type_mark<T>, &copy); }
    const T copy;
  };

  posix::Ref<Thing> thing_;
};

template <class Thing, class Range>
std::vector<Thing> wait_for(Range& things, Timeout limit);

/// Waits until one of the things of a range is ready, or the limit is over, and gives all that are,
/// in the order of the range: an empty vector when time is up. Uses one poll(2). Throws
/// os::OSError (EBADF) for a descriptor that is not open, and what their fileno() throws.
template <class Range>
requires HasDescriptor<std::remove_cvref_t<decltype(*std::begin(std::declval<Range&>()))>>
auto wait(Range&& things, Timeout limit = forever) {
  using Thing = std::remove_cvref_t<decltype(*std::begin(things))>;
  return connection::wait_for<Thing>(things, limit);
}

/// The same for a list in braces: of one type, or mixed, which gives Waitables.
template <HasDescriptor T>
std::vector<T> wait(std::initializer_list<T> things, Timeout limit = forever) {
  return connection::wait_for<T>(things, limit);
}
template <class Mixed = Waitable>
std::vector<Mixed> wait(std::initializer_list<std::type_identity_t<Mixed>> things,
                        Timeout limit = forever) {
  return connection::wait_for<Mixed>(things, limit);
}

// ---------------------------------------------------------------------------------------------

template <class Thing, class Range>
std::vector<Thing> wait_for(Range& things, Timeout limit) {
  const posix::Deadline deadline{limit};
  std::vector<Thing> ready;  // all of them at first
  posix::List<pollfd> entries;
  for (auto&& thing : things) {
    ready.push_back(thing);
    entries.push_back({connection::descriptor(ready.back()), POLLIN, 0});
  }
  posix::poll_until(entries.data(), entries.size(), deadline);
  std::size_t count = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if ((entries[i].revents & POLLNVAL) != 0)
      posix::throw_os_error(EBADF, "wait for a descriptor", std::to_string(entries[i].fd));
    if (entries[i].revents == 0) continue;
    if (count != i) ready[count] = ready[i];
    ++count;
  }
  ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(count), ready.end());
  return ready;
}

}  // namespace brood::multiprocessing::connection
