// SPDX-License-Identifier: MIT
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <brood/posix/code.hpp>
#include <brood/posix/load_module.hpp>
#include <brood/posix/pipe.hpp>
#include <brood/subprocess.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/plugin/plugin.hpp"
#include "support/programs.hpp"

namespace posix = brood::posix;
using Catch::Matchers::ContainsSubstring;
using posix::CodePlace;
using posix::SegmentUse;
using support::Plugin;
using support::plugin_path;

namespace {

int answer() { return 42; }
const int constant = 43;
int variable = 44;

template <class Function>
const void* address(Function* function) {
  return reinterpret_cast<const void*>(function);
}
const void* find(CodePlace place, SegmentUse use = SegmentUse::data) {
  return posix::address_of(place, 1, 1, use);
}
bool comes_back(const void* address, SegmentUse use) {
  return find(posix::place_of(address), use) == address;
}

// A segment of what is loaded here, in places.
struct Segment {
  std::uint64_t module;
  std::uint64_t begin;
  std::uint64_t end;
  unsigned flags;
};
std::vector<Segment> segments() {
  struct Found {
    ElfW(Addr) base;
    ElfW(Phdr) header;
  };
  std::vector<Found> found;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        for (int i = 0; i < info->dlpi_phnum; ++i)
          if (info->dlpi_phdr[i].p_type == PT_LOAD)
            static_cast<std::vector<Found>*>(data)->push_back(
                {info->dlpi_addr, info->dlpi_phdr[i]});
        return 0;
      },
      &found);
  std::vector<Segment> result;
  for (const auto& [base, header] : found) {
    const void* const begin = reinterpret_cast<const void*>(base + header.p_vaddr);
    result.push_back({posix::place_of(begin).module, header.p_vaddr,
                      header.p_vaddr + header.p_memsz, header.p_flags});
  }
  return result;
}

// Whether the kernel reads it. (Sanitizers look at what write() is given, not at a bare call.)
bool is_readable(const posix::PipeEnds& pipe, const void* at) {
  if (::syscall(SYS_write, pipe.write.get(), at, 1) != 1) return false;
  char byte;
  return ::read(pipe.read.get(), &byte, 1) == 1;
}

std::string said_by(const std::string& kind) {
  return brood::subprocess::check_output({std::string(PLUGIN_DIR) + "/program_" + kind});
}

}  // namespace

TEST_CASE("the place of a function and of data leads back to them") {
  CHECK(comes_back(address(&answer), SegmentUse::code));
  CHECK(comes_back(&constant, SegmentUse::data));
  CHECK(comes_back(&variable, SegmentUse::data));
  CHECK(posix::place_of(&constant) == posix::place_of(&constant));
  CHECK(posix::place_of(&constant).module == posix::place_of(address(&answer)).module);
  CHECK_FALSE(posix::place_of(&constant) == posix::place_of(&variable));
}

TEST_CASE("the place of what lies in a library leads back to it") {
  CHECK(comes_back(address(&::getppid), SegmentUse::code));
  CHECK(comes_back(plugin_own_words(), SegmentUse::data));
  CHECK(comes_back(address(&plugin_answer), SegmentUse::code));
  CHECK_FALSE(posix::place_of(plugin_own_words()).module == posix::place_of(&constant).module);
}

TEST_CASE("a place in a library opened later holds until that is closed") {
  for (const char* const kind : {"one", "bare_one"}) {
    const std::string path = plugin_path(kind);
    CodePlace code{}, words{};
    for (int round = 0; round < 3; ++round) {
      Plugin plugin(path);
      CHECK(comes_back(plugin.address("plugin_answer"), SegmentUse::code));
      CHECK(comes_back(plugin.address("plugin_words"), SegmentUse::data));
      CHECK(comes_back(plugin.address("plugin_count"), SegmentUse::data));
      const auto code_now = posix::place_of(plugin.address("plugin_answer"));
      const auto words_now = posix::place_of(plugin.address("plugin_words"));
      if (round != 0) CHECK((code_now == code && words_now == words));
      code = code_now;
      words = words_now;
      CHECK(posix::is_loaded(code.module));
      plugin.close();
      if (support::is_loaded(path)) continue;  // a sanitizer keeps it
      CHECK_FALSE(posix::is_loaded(code.module));
      CHECK(find(code, SegmentUse::code) == nullptr);
      CHECK(find(words) == nullptr);
    }
  }
}

TEST_CASE("another build of a library has places of its own where the first one lay") {
  for (const std::string kind : {"", "bare_"}) {
    std::set<std::uint64_t> modules;
    for (int round = 0; round < 3; ++round) {
      for (const std::string build : {"one", "two"}) {
        const Plugin plugin(plugin_path(kind + build));
        const auto place = posix::place_of(plugin.address("plugin_answer"));
        modules.insert(place.module);
        CHECK(find(place, SegmentUse::code) == plugin.address("plugin_answer"));
      }
      CHECK(modules.size() == 2);
    }
  }
}

TEST_CASE("what lies in no program or library has no place") {
  int on_the_stack = 0;
  const auto on_the_heap = std::make_unique<int>(0);
  const void* const outside[] = {&on_the_stack, on_the_heap.get(), nullptr,
                                 reinterpret_cast<const void*>(8),
                                 reinterpret_cast<const void*>(~std::uintptr_t{0})};
  for (const void* const at : outside) {
    CHECK_THROWS_AS(posix::place_of(at), std::invalid_argument);
    CHECK(posix::module_path(at).empty());
  }
}

TEST_CASE("a place outside of all segments of its module leads nowhere") {
  const auto all = segments();
  REQUIRE(all.size() > 4);
  for (const Segment& segment : all) {
    if ((segment.flags & PF_R) == 0) continue;
    const auto data = [&](std::uint64_t offset, std::size_t size) {
      return posix::address_of({segment.module, offset}, size, 1, SegmentUse::data);
    };
    const std::uint64_t size = segment.end - segment.begin;
    CHECK(data(segment.begin, size) != nullptr);
    CHECK(data(segment.end - 1, 1) != nullptr);
    CHECK(data(segment.begin, size + 1) == nullptr);
    CHECK(data(segment.end - 1, 2) == nullptr);
    CHECK(data(segment.begin, ~std::size_t{0}) == nullptr);
    bool in_another = false, before_another = false;
    for (const Segment& other : all) {
      if (other.module != segment.module) continue;
      in_another |= other.begin <= segment.end && segment.end < other.end;
      before_another |= other.begin < segment.begin && segment.begin <= other.end;
    }
    if (!in_another) CHECK(data(segment.end, 1) == nullptr);
    if (!before_another) CHECK(data(segment.begin - 1, 1) == nullptr);
  }
}

TEST_CASE("a place is refused where it is not aligned or not of code or of no module") {
  const CodePlace place = posix::place_of(&variable);
  CHECK(posix::address_of(place, sizeof(int), alignof(int), SegmentUse::data) == &variable);
  CHECK(posix::address_of({place.module, place.offset + 1}, 1, alignof(int), SegmentUse::data) ==
        nullptr);
  CHECK(find(place, SegmentUse::code) == nullptr);
  CHECK(find({place.module ^ 2, place.offset}) == nullptr);
  CHECK(find({0, place.offset}) == nullptr);
  CHECK_FALSE(posix::is_loaded(0));
  CHECK_FALSE(posix::is_loaded(place.module ^ 2));
}

TEST_CASE("a place from anywhere leads to memory or nowhere") {
  const auto all = segments();
  const auto pipe = posix::make_pipe();
  std::mt19937_64 random(20);
  std::size_t found = 0;
  for (int i = 0; i < 20'000; ++i) {
    const Segment& segment = all[random() % all.size()];
    CodePlace place{segment.module, random()};
    const std::uint64_t near = random() % 64 - 32;
    switch (random() % 5) {
      case 0:
        place.module = random();
        break;
      case 1:
        place.offset = segment.begin + near;
        break;
      case 2:
        place.offset = segment.end + near;
        break;
      case 3:
        place.offset = segment.begin + place.offset % (segment.end - segment.begin + 1);
        break;
      default:
        break;
    }
    const std::size_t size = random() % 3 == 0 ? random() : random() % 64 + 1;
    const std::size_t alignment = std::size_t{1} << random() % 5;
    const auto use = random() % 2 == 0 ? SegmentUse::code : SegmentUse::data;
    const void* const at = posix::address_of(place, size, alignment, use);
    if (at == nullptr) continue;
    ++found;
    const auto begin = reinterpret_cast<std::uintptr_t>(at);
    if (begin % alignment != 0) FAIL("not aligned");
    if (use == SegmentUse::data &&
        (!is_readable(pipe, at) || !is_readable(pipe, static_cast<const char*>(at) + size - 1)))
      FAIL("not readable");
  }
  CHECK(found > 100);
}

TEST_CASE("the file of an address is the program or the library by its whole path") {
  CHECK(posix::module_path(&constant) == std::filesystem::read_symlink("/proc/self/exe"));
  CHECK(posix::module_path(address(&answer)) == posix::module_path(&constant));
  // It is opened by a path that no longer leads there.
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(std::string(PLUGIN_DIR) + "/one");
  const Plugin plugin("./plugin.so");
  std::filesystem::current_path(here);
  for (const char* const name : {"plugin_answer", "plugin_words", "plugin_count"})
    CHECK(posix::module_path(plugin.address(name)) ==
          std::filesystem::canonical(plugin_path("one")));
}

TEST_CASE("a library that another process has loaded is loaded by its path") {
  // A process of its own: what is loaded stays.
  const auto ended = support::program([] {
    const auto place_in = [](const std::string& kind) {
      return posix::place_of(Plugin(plugin_path(kind)).address("plugin_answer"));
    };
    for (const std::string kind : {"", "bare_"}) {
      const auto one = place_in(kind + "one");
      posix::load_module(one.module, plugin_path(kind + "one"));
      const void* const at = find(one, SegmentUse::code);
      support::say(at == nullptr
                       ? "nowhere;"
                       : std::to_string(reinterpret_cast<int (*)()>(const_cast<void*>(at))()) +
                             ";");
      posix::load_module(one.module, "/no/such/file");  // it is there by now
    }
  });
  CHECK(ended.said == "1;1;");
}

TEST_CASE("a library that cannot be loaded or is another build by now is named") {
  const auto module = [](const std::string& kind) {
    return posix::place_of(Plugin(plugin_path(kind)).address("plugin_answer")).module;
  };
  for (const std::string kind : {"", "bare_"}) {
    const auto one = module(kind + "one");
    if (support::is_loaded(plugin_path(kind + "one"))) SKIP("a sanitizer keeps libraries");
    CHECK_THROWS_WITH(posix::load_module(one, plugin_path(kind + "two")),
                      ContainsSubstring(plugin_path(kind + "two")) &&
                          ContainsSubstring("is not the build of it"));
    CHECK_FALSE(support::is_loaded(plugin_path(kind + "two")));
    CHECK_THROWS_WITH(posix::load_module(one, "/no/such/file"),
                      ContainsSubstring("\"/no/such/file\" is not loaded here") &&
                          ContainsSubstring("No such file"));
    CHECK_THROWS_AS(posix::load_module(one, posix::module_path(&constant)), std::invalid_argument);
    CHECK_THROWS_AS(posix::load_module(one, ""), std::invalid_argument);
  }
}

TEST_CASE("a program finds its own code however it is linked") {
  std::set<std::string> modules;
  std::set<std::string> kinds{"usual", "without_build_id", "one_segment_of_code_and_constants",
                              "fixed", "static"};
  for (const std::string& kind : kinds) {
    if (!std::filesystem::exists(std::string(PLUGIN_DIR) + "/program_" + kind)) continue;
    const std::string said = said_by(kind);
    CHECK_THAT(said, ContainsSubstring("good"));
    CHECK(said == said_by(kind));  // it is the same one wherever it is loaded
    modules.insert(said);
  }
  CHECK(modules.size() >= 3);
}

TEST_CASE("places are asked for by many threads while libraries come and go") {
  const Plugin stays(plugin_path("one"));
  const void* const kept[] = {stays.address("plugin_words"), address(&::getppid), &constant};
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  const auto ask = [&] {
    while (!stop)
      for (const void* const at : kept)
        if (find(posix::place_of(at)) != at) ++wrong;
  };
  std::thread first(ask), second(ask);
  for (int i = 0; i < 50; ++i) {
    const Plugin plugin(plugin_path(i % 2 == 0 ? "two" : "bare_two"));
    const void* const at = plugin.address("plugin_words");
    if (find(posix::place_of(at)) != at) ++wrong;
  }
  stop = true;
  first.join();
  second.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE("places are asked for in a library that another thread closes") {
  CodePlace places[4];
  for (int i = 0; i < 4; ++i) {
    const Plugin plugin(plugin_path(i % 2 == 0 ? "two" : "bare_two"));
    places[i] = posix::place_of(plugin.address(i < 2 ? "plugin_words" : "plugin_answer"));
  }
  std::atomic<bool> stop{false};
  std::thread other([&] {
    for (int i = 0; i < 5000; ++i)
      const Plugin plugin(plugin_path(i % 2 == 0 ? "two" : "bare_two"));
    stop = true;
  });
  std::size_t asked = 0;
  do {
    find(places[0]);
    find(places[1]);
    find(places[2], SegmentUse::code);
    find(places[3], SegmentUse::code);
    ++asked;
  } while (!stop);
  other.join();
  CHECK(asked != 0);
}

TEST_CASE("a child asks for places whatever other threads did at the fork") {
  std::atomic<bool> stop{false};
  std::atomic<int> asking{0};
  const char* const words = plugin_own_words();
  const auto ask = [&] {
    for (++asking; !stop;) find(posix::place_of(words));
  };
  std::thread first(ask), second(ask);
  while (asking.load() < 2) std::this_thread::yield();
  int failed = 0;
  for (int i = 0; i < 100 && failed == 0; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::alarm(support::last_alarm);
      ::_exit(find(posix::place_of(words)) == words ? 0 : 1);
    }
    if (pid > 0 && support::wait_for(pid) != 0) ++failed;
  }
  stop = true;
  first.join();
  second.join();
  CHECK(failed == 0);
}
