// SPDX-License-Identifier: MIT
//
// 25. Counts the words of files, in four processes: the paths go out by a queue, the counts come
// back by another.
//
//     25_word_count FILE...        without one: of some files that it makes
#include <brood/multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace mp = brood::multiprocessing;
using Counts = std::map<std::string, long>;

void count_words(mp::Queue<std::string> paths, mp::Queue<Counts> results) {
  Counts counts;
  for (const std::string& path : paths) {
    std::ifstream file(path);
    for (std::string word; file >> word;) ++counts[word];
  }
  results.put(counts);
}

int main(int argc, char** argv) {
  std::vector<std::string> files(argv + 1, argv + argc);
  char directory[] = "/tmp/word_count.XXXXXX";
  if (files.empty() && mkdtemp(directory) != nullptr) {
    for (int i = 1; i <= 20; ++i) {
      files.push_back(directory + ("/" + std::to_string(i)));
      std::ofstream file(files.back());
      for (int line = 0; line < i; ++line) file << "the quick brown fox and the lazy dog\n";
    }
  }

  mp::Queue<std::string> paths;
  mp::Queue<Counts> results;
  std::vector<mp::Process> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back(count_words, paths, results);
    workers.back().start();
  }
  paths.put_many(files);
  paths.shutdown();  // the workers' loops end when all paths are taken
  Counts total;
  for (std::size_t i = 0; i < workers.size(); ++i)
    for (const auto& [word, count] : results.get()) total[word] += count;
  for (const auto& worker : workers) worker.join();

  for (const auto& [word, count] : total) fmt::print("{:8} {}\n", count, word);
  if (argc == 1) std::filesystem::remove_all(directory);
}
