// SPDX-License-Identifier: MIT
// Flushing std::cout, std::cerr and std::clog, and emptying std::cin, without the weight of
// <iostream> in every file that includes brood. With libstdc++ they are reached by their symbols,
// which are part of its ABI. In a program where nobody includes <iostream> they are never
// constructed (all zeros, also where the pointer to the virtual table would be), and there is
// nothing to flush.
#pragma once

#include <cstddef>  // defines __GLIBCXX__ with libstdc++
#include <cstdint>
#include <initializer_list>

#if defined(__GLIBCXX__) && defined(__LP64__)  // std::streamsize is long

namespace brood::posix::iostreams {

struct Stream;  // a std::ostream
extern Stream cout __asm__("_ZSt4cout");
extern Stream cerr __asm__("_ZSt4cerr");
extern Stream clog __asm__("_ZSt4clog");
extern Stream cin __asm__("_ZSt3cin");                // a std::istream
void flush(Stream* stream) __asm__("_ZNSo5flushEv");  // std::ostream::flush()
void ignore(Stream* stream,
            std::ptrdiff_t count) __asm__("_ZNSi6ignoreEl");  // std::istream::ignore

inline bool exists(const Stream& stream) noexcept {
  return *reinterpret_cast<void* const*>(&stream) != nullptr;
}

}  // namespace brood::posix::iostreams

namespace brood::posix {

/// Throws what the streams' owner asked them to throw.
inline void flush_iostreams() {
  for (iostreams::Stream* const stream : {&iostreams::cout, &iostreams::cerr, &iostreams::clog})
    if (iostreams::exists(*stream)) iostreams::flush(stream);
}

/// Reads std::cin, what it has buffered and then descriptor 0, to the end.
inline void drain_iostreams_input() {
  if (iostreams::exists(iostreams::cin)) iostreams::ignore(&iostreams::cin, PTRDIFF_MAX);
}

}  // namespace brood::posix

#else

#include <iostream>
#include <limits>

namespace brood::posix {

inline void flush_iostreams() {
  std::cout.flush();
  std::cerr.flush();
  std::clog.flush();
}

inline void drain_iostreams_input() {
  std::cin.ignore(std::numeric_limits<std::streamsize>::max());
}

}  // namespace brood::posix

#endif
