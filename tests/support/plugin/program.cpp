// SPDX-License-Identifier: MIT
//
// A program that finds its own code by its place. It is linked in ways in which the tests are not.
#include <brood/crossing.hpp>
#include <cstdio>
#include <string>

namespace posix = brood::posix;
using brood::serialization::Reader;

namespace {

int answer() { return 42; }
void run(Reader&) {}
const brood::CallEntry<void(Reader&)> entry{&run, typeid(int)};
const int constant = 7;

template <class T>
bool comes_back(T* address, posix::SegmentUse use) {
  const auto place = posix::place_of(reinterpret_cast<const void*>(address));
  return posix::address_of(place, 1, 1, use) == reinterpret_cast<const void*>(address);
}

}  // namespace

int main() {
  const bool good = comes_back(&answer, posix::SegmentUse::code) &&
                    comes_back(&constant, posix::SegmentUse::data) &&
                    entry.at(entry.place()) == &entry &&
                    entry.place().module == posix::place_of(&constant).module &&
                    !posix::module_path(&constant).empty();
  std::printf("%s %llx\n", good ? "good" : "bad",
              static_cast<unsigned long long>(entry.place().module));
  return good ? 0 : 1;
}
