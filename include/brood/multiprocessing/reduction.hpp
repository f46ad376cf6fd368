// SPDX-License-Identifier: MIT
// How handles get to a process that was not forked for them: as bytes, and the descriptors beside
// them. Python counterpart: multiprocessing.reduction.
//
//   here                                          there
//   Reduction reduction;                          Reduction reduction{std::move(descriptors)};
//   Writer{buffer, size, &reduction}.write(args)  auto args = Reader{bytes, &reduction}.read<...>()
//   send bytes and reduction.descriptors()
//
// A queue, lock, event, value, connection, ... is Serializable, also inside containers and classes,
// but only by a Reduction: towards a process that is being started. Anywhere else (dumps(), an item
// of a queue, a task of a pool) it is a SerializationError.
//
// What is one object here is one there: two handles for it arrive as two equal handles.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../posix/fd.hpp"
#include "../posix/list.hpp"
#include "../posix/ref.hpp"
#include "../serialization/reader.hpp"
#include "../serialization/writer.hpp"

namespace brood::multiprocessing {

/// The descriptors that go along with bytes. Not for use from several threads.
class Reduction final : public serialization::Context {
 public:
  /// To write by.
  Reduction() noexcept = default;
  /// To read by: with the descriptors that came, in their order.
  explicit Reduction(posix::List<posix::unique_fd> received) noexcept
      : received_{static_cast<posix::List<posix::unique_fd>&&>(received)} {}
  ~Reduction() override { finish(); }
  Reduction(const Reduction&) = delete;
  Reduction& operator=(const Reduction&) = delete;

  /// Stands for a descriptor that a handle does without.
  static constexpr std::uint32_t no_descriptor = static_cast<std::uint32_t>(-1);

  /// The Reduction by which an archive writes or reads. Throws SerializationError if there is none.
  static Reduction& of(const serialization::Archive& archive);

  // To write by:

  /// Has a descriptor go along: the number by which the reader takes it. The same one goes but
  /// once. It remains the caller's, who keeps it open until all is sent.
  std::uint32_t add(int fd);
  /// Keeps an object, and calls `leave(object)`, a lambda without captures, when this is destroyed
  /// (at once if this throws).
  template <class Object, class Leave>
  void keep(posix::Ref<Object> object, Leave leave);
  /// Those to send along, in order.
  const posix::List<int>& descriptors() const noexcept { return given_; }

  // To read by:

  /// Takes a descriptor over. Throws SerializationError if there is none of that number (any more),
  /// or if it is of another `type` (S_IFREG, S_IFSOCK, S_IFIFO, 0: of none of the file system's).
  posix::unique_fd take(std::uint64_t number, unsigned type);
  /// The same, of whatever type it is.
  posix::unique_fd take(std::uint64_t number);
  /// The object that is known by this descriptor and place: what `make()` returns, the first time.
  /// Throws SerializationError if it is one of another class.
  template <class Object, class Make>
  posix::Ref<Object> once(std::uint64_t number, std::uint64_t place, Make make);
  /// When all is read: closes the descriptors that nothing has taken. What was read lives on with
  /// its handles alone.
  void finish() noexcept;

 private:
  // An object that must outlive this, or that was read already.
  struct Known {
    std::uint64_t place;
    const void* kind;
    void* object;
    void (*let_go)(void*) noexcept;
    std::uint32_t next;  // of the same descriptor
  };
  static constexpr std::uint32_t end = no_descriptor;

  template <class Object>
  static constexpr char kind_of = 0;

  const Known* find(std::uint64_t number, std::uint64_t place, const void* kind) const;

  posix::List<int> given_;
  posix::List<std::uint32_t> number_of_;  // by descriptor; 0: none, else one more
  posix::List<posix::unique_fd> received_;
  posix::List<std::uint32_t> first_known_;  // by number
  posix::List<Known> known_;
};

/// Plain numbers as they are, which is all that handles write.
template <class Numbers>
Numbers read_plain(serialization::Reader& in) {
  Numbers numbers;
  std::memcpy(&numbers, in.read_bytes(sizeof numbers).data(), sizeof numbers);
  return numbers;
}

/// A handle that crosses by a Reduction. It has, for its Serializer alone:
///
///     template <class Out> void reduce(Out& out, Reduction& reduction) const;
///     Handle(serialization::Reader& in, Reduction& reduction);
template <class Handle>
struct HandleSerializer {
  static constexpr bool is_handle = true;
  template <class Out>
  static void write(Out& out, const Handle& handle) {
    handle.reduce(out, Reduction::of(out));
  }
  static Handle read(serialization::Reader& in) { return Handle(in, Reduction::of(in)); }
};

// ---------------------------------------------------------------------------------------------

inline void Reduction::finish() noexcept {
  while (!known_.empty()) {
    known_.back().let_go(known_.back().object);
    known_.pop_back();
  }
  first_known_.clear();
  received_.clear();
}

inline Reduction& Reduction::of(const serialization::Archive& archive) {
  auto* const reduction = dynamic_cast<Reduction*>(archive.context());
  if (reduction == nullptr)
    serialization::throw_error(
        "a queue, lock, connection or other handle can only be an argument of a new process");
  return *reduction;
}

inline std::uint32_t Reduction::add(int fd) {
  if (fd < 0) posix::throw_os_error(EBADF, "pass a descriptor on");
  const auto place = static_cast<std::size_t>(fd);
  while (number_of_.size() <= place) number_of_.push_back(0);
  if (number_of_[place] == 0) {
    given_.push_back(fd);
    number_of_[place] = static_cast<std::uint32_t>(given_.size());
  }
  return number_of_[place] - 1;
}

template <class Object, class Leave>
void Reduction::keep(posix::Ref<Object> object, Leave) {
  const auto let_go = [](void* it) noexcept {
    const auto kept = posix::Ref<Object>::adopt(static_cast<Object*>(it));
    Leave{}(*kept);
  };
  try {
    known_.push_back({0, nullptr, object.get(), let_go, end});
  } catch (...) {
    let_go(object.release());
    throw;
  }
  object.release();
}

inline posix::unique_fd Reduction::take(std::uint64_t number, unsigned type) {
  if (number < received_.size() && received_[number]) {
    struct stat file {};
    posix::check(::fstat(received_[number].get(), &file), "look at a descriptor");
    if ((file.st_mode & S_IFMT) != type)
      serialization::throw_error("a handle with a descriptor of another kind");
  }
  return take(number);
}

inline posix::unique_fd Reduction::take(std::uint64_t number) {
  if (number >= received_.size() || !received_[number])
    serialization::throw_error("a handle without its descriptor");
  return static_cast<posix::unique_fd&&>(received_[number]);
}

inline const Reduction::Known* Reduction::find(std::uint64_t number, std::uint64_t place,
                                               const void* kind) const {
  if (number >= received_.size()) serialization::throw_error("a handle without its descriptor");
  if (number >= first_known_.size()) return nullptr;
  for (std::uint32_t i = first_known_[number]; i != end; i = known_[i].next) {
    if (known_[i].place != place) continue;
    if (known_[i].kind != kind) serialization::throw_error("a handle of another class");
    return &known_[i];
  }
  return nullptr;
}

template <class Object, class Make>
posix::Ref<Object> Reduction::once(std::uint64_t number, std::uint64_t place, Make make) {
  if (const Known* const known = find(number, place, &kind_of<Object>))
    return posix::Ref<Object>::share(static_cast<Object*>(known->object));
  posix::Ref<Object> made = make();
  while (first_known_.size() <= number) first_known_.push_back(end);
  known_.push_back({place, &kind_of<Object>, made.get(),
                    [](void* it) noexcept { posix::Ref<Object>::adopt(static_cast<Object*>(it)); },
                    first_known_[number]});
  first_known_[number] = static_cast<std::uint32_t>(known_.size() - 1);
  made->add_owner();
  return made;
}

}  // namespace brood::multiprocessing
