// SPDX-License-Identifier: MIT
#include <sys/stat.h>

#include <brood/posix/cgroup.hpp>
#include <cstdio>
#include <string>

#include "support/catch.hpp"
#include "support/start_ways.hpp"

namespace {

void write_file(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  REQUIRE(file != nullptr);
  std::fputs(text.c_str(), file);
  std::fclose(file);
}

double quota(const support::TemporaryDirectory& root, const std::string& membership) {
  write_file(root / "membership", membership);
  return brood::posix::cgroup_cpu_quota((root / "membership").c_str(), root.path().c_str());
}

}  // namespace

TEST_CASE("the quota of cgroup v2 is the smallest up to the root") {
  const support::TemporaryDirectory root;
  ::mkdir((root / "a").c_str(), 0700);
  ::mkdir((root / "a/b").c_str(), 0700);
  CHECK(quota(root, "0::/a/b\n") == Catch::Approx(0));
  write_file(root / "a/b/cpu.max", "max 100000\n");
  CHECK(quota(root, "0::/a/b\n") == Catch::Approx(0));
  write_file(root / "a/cpu.max", "150000 100000\n");
  CHECK(quota(root, "0::/a/b\n") == Catch::Approx(1.5));
  write_file(root / "a/b/cpu.max", "400000 100000\n");
  CHECK(quota(root, "0::/a/b\n") == Catch::Approx(1.5));
  CHECK(quota(root, "0::/\n") == Catch::Approx(0));
  write_file(root / "cpu.max", "50000 100000\n");
  CHECK(quota(root, "0::/\n") == Catch::Approx(0.5));
  // A path of the host's that is not there in the container.
  CHECK(quota(root, "0::/docker/0123\n") == Catch::Approx(0.5));
}

TEST_CASE("the quota of cgroup v1 is that of the cpu controller") {
  const support::TemporaryDirectory root;
  ::mkdir((root / "cpu").c_str(), 0700);
  ::mkdir((root / "cpu/x").c_str(), 0700);
  write_file(root / "cpu/x/cpu.cfs_quota_us", "-1\n");
  write_file(root / "cpu/x/cpu.cfs_period_us", "100000\n");
  CHECK(quota(root, "7:cpu,cpuacct:/x\n3:cpuset:/\n") == Catch::Approx(0));
  write_file(root / "cpu/x/cpu.cfs_quota_us", "250000\n");
  CHECK(quota(root, "3:cpuset:/x\n7:cpuacct,cpu:/x\n") == Catch::Approx(2.5));
  CHECK(quota(root, "3:cpuset:/x\n") == Catch::Approx(0));
}

TEST_CASE("a membership that cannot be read or makes no sense is no quota") {
  const support::TemporaryDirectory root;
  CHECK(brood::posix::cgroup_cpu_quota((root / "missing").c_str(), root.path().c_str()) ==
        Catch::Approx(0));
  CHECK(quota(root, "") == Catch::Approx(0));
  CHECK(quota(root, "nonsense\n\n:\n::\n0::\n0::relative/path\n") == Catch::Approx(0));
}
