// SPDX-License-Identifier: MIT
#include <brood/posix/byte_chunks.hpp>
#include <cstddef>
#include <string>

#include "support/catch.hpp"

using brood::posix::ByteChunks;

namespace {

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 2654435761u >> 13);
  return text;
}

}  // namespace

TEST_CASE("chunks give back what was put in whatever its size") {
  for (const std::size_t size : {0ul, 1ul, 65535ul, 65536ul, 65537ul, 1000000ul, 13000000ul}) {
    const std::string text = pattern(size);
    ByteChunks chunks;
    chunks.append(text);
    CHECK(chunks.size() == size);
    CHECK((chunks.copy() == text));
    CHECK((chunks.take() == text));
    CHECK(chunks.size() == 0);
    CHECK(chunks.take().empty());
    chunks.append("again");
    CHECK(chunks.take() == "again");
  }
}

TEST_CASE("chunks filled in odd pieces keep the order") {
  ByteChunks chunks;
  std::string expected;
  for (std::size_t i = 0; expected.size() < 6'000'000; ++i) {
    const auto room = chunks.space();
    REQUIRE(room.size > 0);
    const std::size_t part = std::size_t{1} + i * 7919 % 60'000;
    const std::size_t size = part < room.size ? part : room.size;
    for (std::size_t k = 0; k < size; ++k) room.data[k] = static_cast<char>(i + k);
    expected.append(room.data, size);
    chunks.commit(size);
  }
  CHECK((chunks.take() == expected));
}
