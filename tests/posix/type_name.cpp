// SPDX-License-Identifier: MIT
#include <array>
#include <brood/posix/signals.hpp>
#include <brood/posix/type_name.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <typeinfo>
#include <unordered_map>
#include <vector>

#include "support/catch.hpp"

namespace posix = brood::posix;

namespace {

template <class T>
std::string name() {
  return posix::demangle(typeid(T).name());
}

std::string shorten(const std::string& name) {
  return posix::shorten_type(name.data(), name.size());
}

}  // namespace

TEST_CASE("types are named as one writes them") {
  CHECK(name<int>() == "int");
  CHECK(name<std::string>() == "std::string");
  CHECK(name<std::string_view>() == "std::string_view");
  CHECK(name<std::vector<std::string>>() == "std::vector<std::string>");
  CHECK(name<std::map<std::string, std::vector<int>>>() ==
        "std::map<std::string, std::vector<int>>");
  CHECK(name<std::unordered_map<int, std::set<long>>>() ==
        "std::unordered_map<int, std::set<long>>");
  CHECK(name<std::unique_ptr<std::pair<int, std::string>>>() ==
        "std::unique_ptr<std::pair<int, std::string>>");
  CHECK(name<int (*)(const std::string&)>() == "int (*)(std::string const&)");
  CHECK(shorten("std::__cxx11::basic_string<char>") == "std::string");
  CHECK(shorten("Tray<std::__cxx11::basic_string<char> >") == "Tray<std::string>");
}

TEST_CASE("what is no type is named as it is") {
  for (const char* const text : {"", "?", "no type", ", std::allocator<", "<<>", "std::allocator<"})
    CHECK(posix::demangle(text).size() <= std::string_view(text).size());
}

TEST_CASE("the end of a process is told with the name of its signal") {
  CHECK(posix::describe_end(3) == "ended with code 3");
  CHECK(posix::describe_end(-11) == "was killed by SIGSEGV (signal 11)");
  CHECK(posix::describe_end(-63) == "was killed by signal 63");
}
