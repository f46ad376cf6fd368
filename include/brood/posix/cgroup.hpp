// SPDX-License-Identifier: MIT
// How much of the machine's processors the control groups leave to this process.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace brood::posix {

/// The quota of one group, in processors; 0 when it has none. `file` is cpu.max of cgroup v2
/// ("50000 100000", "max 100000"), or v1's cpu.cfs_quota_us, whose `period` is a file of its own.
inline double read_cpu_quota(const std::string& file, const char* period_file = nullptr) {
  double quota = 0;
  double period = 0;
  if (std::FILE* const stream = std::fopen(file.c_str(), "re")) {
    if (std::fscanf(stream, "%lf %lf", &quota, &period) < 1) quota = 0;
    std::fclose(stream);
  }
  if (period_file != nullptr) {
    std::string name{file, 0, file.rfind('/') + 1};
    if (std::FILE* const stream = std::fopen(name.append(period_file).c_str(), "re")) {
      if (std::fscanf(stream, "%lf", &period) < 1) period = 0;
      std::fclose(stream);
    }
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

/// The smallest quota, in processors, along the way from this process's group up to the root; 0
/// when there is none. The arguments are for tests.
inline double cgroup_cpu_quota(const char* membership = "/proc/self/cgroup",
                               const char* root = "/sys/fs/cgroup") {
  double smallest = 0;
  std::FILE* const stream = std::fopen(membership, "re");
  if (stream == nullptr) return 0;
  char* line = nullptr;
  std::size_t size = 0;
  while (::getline(&line, &size, stream) > 0) {  // "7:cpu,cpuacct:/path", or v2's "0::/path"
    char* const controllers = std::strchr(line, ':');
    char* const group = controllers == nullptr ? nullptr : std::strchr(controllers + 1, ':');
    if (group == nullptr) continue;
    const bool unified = group == controllers + 1;
    bool has_cpu = unified;
    for (const char* name = controllers; name != group && !has_cpu;
         name = std::strpbrk(name + 1, ",:"))
      has_cpu = std::strncmp(name + 1, "cpu", 3) == 0 && (name[4] == ',' || name[4] == ':');
    if (!has_cpu) continue;
    // In a container the path may be the host's, and not be there; its parents up to the root are
    // looked at in any case.
    std::string path{group + 1, std::strcspn(group + 1, "\n")};
    for (bool at_root = false; !at_root;) {
      at_root = path.size() <= 1 || path.front() != '/';
      std::string file{root};
      if (!unified) file += "/cpu";
      if (!at_root) file += path;
      const double quota = unified
                               ? read_cpu_quota(file + "/cpu.max")
                               : read_cpu_quota(file + "/cpu.cfs_quota_us", "cpu.cfs_period_us");
      if (quota > 0 && (smallest <= 0 || quota < smallest)) smallest = quota;
      if (!at_root) path.erase(path.rfind('/'));
    }
  }
  std::free(line);
  std::fclose(stream);
  return smallest;
}

}  // namespace brood::posix
