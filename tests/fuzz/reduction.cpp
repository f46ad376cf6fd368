// SPDX-License-Identifier: MIT
// What a process is told by another one when it is started: a parcel of bytes and descriptors, and
// the handles in it. Whatever comes, it is handles that can be used, or an error; no descriptor is
// left open, and nothing is mapped that is not there.
//
// The first byte of an input says what it is about: the bytes of the wire as they are, or changes
// to a parcel of one of each handle, three bytes each: where, and what to write there. Beyond the
// bytes lie the numbers of the descriptors, which may be dropped, doubled and mixed up.
#include <sys/socket.h>

#include <brood/multiprocessing.hpp>
#include <brood/posix/parcel.hpp>
#include <brood/posix/socket_pair.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mp = brood::multiprocessing;
namespace posix = brood::posix;
using brood::serialization::SerializationError;
using mp::shared_memory::SharedMemory;

namespace {

using Locks = std::tuple<mp::Lock, mp::RLock, mp::Semaphore, mp::BoundedSemaphore, mp::Event,
                         mp::Condition, mp::Barrier>;
using Memories = std::tuple<mp::Value<long>, mp::RawValue<double>, mp::Array<int>,
                            mp::RawArray<char>, SharedMemory>;
using Lines = std::tuple<mp::Connection, std::optional<mp::Queue<int>>, mp::JoinableQueue<int>,
                         mp::SimpleQueue<int>, mp::Queue<std::string>>;
using All = std::tuple<Locks, Memories, Lines, mp::Lock, mp::Queue<int>>;

// One of each, which stay for the whole run; what arrives shares their memory.
struct Handles {
  std::pair<mp::Connection, mp::Connection> ends = mp::Pipe();
  mp::Lock lock;
  mp::Queue<int> queue;
  All all{Locks{lock, mp::RLock(), mp::Semaphore(3), mp::BoundedSemaphore(3), mp::Event(),
                mp::Condition(lock), mp::Barrier(2)},
          Memories{mp::Value<long>(1), mp::RawValue<double>(0.5), mp::Array<int>{1, 2, 3},
                   mp::RawArray<char>(100'000), SharedMemory({.create = true, .size = 100})},
          Lines{ends.first, queue, mp::JoinableQueue<int>(), mp::SimpleQueue<int>(),
                mp::Queue<std::string>(5)},
          lock, queue};
  mp::Reduction reduction;
  std::string bytes;

  Handles() {
    bytes.resize(brood::serialization::serialized_size(all, &reduction));
    brood::serialization::Writer{bytes.data(), bytes.size(), &reduction}.write(all);
  }
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

int lowest_free_descriptor() {
  const posix::unique_fd fd = posix::open_file("/dev/null", O_RDONLY);
  return fd.get();
}

template <class Q>
void use_queue(const Q& q) {
  try {
    q.put_nowait({});
  } catch (const brood::queue::Full&) {
  }
  while (q.try_get()) {
    if constexpr (requires { q.task_done(); }) q.task_done();
  }
}

void use(const All& all) {
  const auto& [locks, memories, lines, lock, queue] = all;
  const auto& [its_lock, rlock, semaphore, bounded, event, condition, barrier] = locks;
  for (const mp::OwnedLock* each :
       {static_cast<const mp::OwnedLock*>(&its_lock), static_cast<const mp::OwnedLock*>(&rlock)})
    if (each->try_lock()) each->release();
  if (semaphore.try_lock()) semaphore.release();
  if (bounded.try_lock()) bounded.release();
  event.set();
  event.clear();
  barrier.n_waiting();
  if (condition.try_lock()) {
    condition.notify();
    condition.release();
  }
  const auto& [value, raw, array, characters, memory] = memories;
  value.update([](long& v) { ++v; });
  raw.set(raw.get());
  // Read alone: changed bytes may well say that an array lies where a lock does.
  volatile unsigned sum = 0;
  for (const int number : array) sum = sum + static_cast<unsigned>(number);
  for (const char character : characters) sum = sum + static_cast<unsigned char>(character);
  for (const std::byte byte : memory.buf()) sum = sum + static_cast<unsigned>(byte);
  const auto& [connection, maybe, joinable, simple, texts] = lines;
  if (connection.readable()) static_cast<void>(connection.poll());
  if (maybe) use_queue(*maybe);
  use_queue(joinable);
  use_queue(simple);
  use_queue(texts);
  use_queue(queue);
}

void receive(int socket) {
  posix::Parcel parcel;
  if (!posix::receive_parcel(socket, parcel)) return;
  std::optional<All> all;
  {
    mp::Reduction reduction{std::move(parcel.descriptors)};
    brood::serialization::Reader reader{parcel.bytes, &reduction};
    all.emplace(reader.read<All>());
    reader.expect_end();
  }
  use(*all);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size == 0) return 0;
  static const Handles* const handles = new Handles;
  const int free_before = lowest_free_descriptor();
  posix::unique_fd here, there;
  posix::make_sockets(SOCK_STREAM, here, there);
  if ((data[0] & 1) == 0) {
    if (::send(there.get(), data + 1, size - 1, MSG_NOSIGNAL) < 0) fail("send");
  } else {
    std::string bytes = handles->bytes;
    auto descriptors = handles->reduction.descriptors().copy();
    for (++data, --size; size >= 3; data += 3, size -= 3) {
      std::size_t at = data[0] | std::size_t{data[1]} << 8;
      at %= bytes.size() + descriptors.size() + 1;
      if (at < bytes.size())
        bytes[at] = static_cast<char>(data[2]);
      else if (at < bytes.size() + descriptors.size())
        descriptors[at - bytes.size()] = descriptors[data[2] % descriptors.size()];
      else if (data[2] % 2 == 0 && descriptors.size() > 1)
        descriptors.pop_back();
      else
        bytes.resize(bytes.size() - (bytes.size() > data[2] ? data[2] : bytes.size() - 1));
    }
    posix::send_parcel(there.get(), bytes, descriptors);
  }
  there.reset();
  try {
    receive(here.get());
  } catch (const brood::os::OSError& error) {
    if (error.code().value() == EMFILE) fail(error.what());
  } catch (const SerializationError&) {
  } catch (const std::invalid_argument&) {  // task_done() of what came out of another queue's pipe
  }
  here.reset();
  if (lowest_free_descriptor() != free_before) fail("a descriptor was left open");
  return 0;
}
