// SPDX-License-Identifier: MIT
//
// Measures several ways of doing one job in turns, so that whatever else the machine does meets all
// of them alike, and prints the medians, the ratios to the peers and what these ought to be.
//
//     int main(int argc, char** argv) {
//       bench::Program program(argc, argv);
//       program.compare("a task of a pool", bench::nanoseconds, 11)  // 11 rounds
//           .add("bare thread", 1000, [] { ... })  // done 1000 times a round; one of them counts
//           .add("brood", 1000, [] { ... })
//           .add_value("CPython", [] { return seconds_it_told; })
//           .at_most("brood", 1.2, "bare thread")
//           .at_most("brood", 0.5, "CPython")  // left out when there is no CPython
//           .run();
//       return program.result();
//     }
//
//     a task of a pool                    median ns      least
//       bare thread                           812.0      790.1
//       brood                                 860.3      821.9   1.06 of bare thread (at most 1.20)
//
// The command line: --rounds N for all comparisons; --markdown for a table with a row for each
// ratio; words: only the comparisons with one of them in the title. The result is 1 when a ratio is
// missed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

/// What the figures are shown in, and how many of these a second has.
struct Unit {
  const char* name;
  double per_second;
};
inline constexpr Unit nanoseconds{"ns", 1e9};
inline constexpr Unit microseconds{"us", 1e6};
inline constexpr Unit milliseconds{"ms", 1e3};
inline constexpr Unit seconds{"s", 1};
/// For figures that are no times: shown as they are.
inline constexpr Unit times{"times", 1};

/// Seconds that `work` takes.
template <class F>
double seconds_of(F&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Says which comparisons are wanted, and keeps the result.
class Program {
 public:
  class Comparison;

  Program(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      if (std::string_view{argv[i]} == "--rounds" && i + 1 < argc)
        rounds_ = std::atoi(argv[++i]);
      else if (std::string_view{argv[i]} == "--markdown")
        is_table_ = true;
      else
        words_.emplace_back(argv[i]);
    }
    if (is_table_)
      std::printf("| what | took | beside | ratio | at most |\n|---|--:|--:|--:|--:|\n");
  }

  /// A comparison, done by its run() and no sooner. `rounds` unless the command line says.
  inline Comparison compare(std::string title, Unit unit, int rounds);

  /// Whether the command line asks for it: for preparations that are dear.
  bool wants(std::string_view title) const {
    return words_.empty() || std::any_of(words_.begin(), words_.end(), [&](const auto& word) {
             return title.find(word) != std::string_view::npos;
           });
  }

  /// For main to return: 1 when a ratio was missed.
  int result() const { return missed_ == 0 ? 0 : 1; }

 private:
  std::vector<std::string> words_;
  int rounds_ = 0;
  bool is_table_ = false;
  int missed_ = 0;
};

class Program::Comparison {
 public:
  Comparison(Program& program, std::string title, Unit unit, int rounds)
      : program_(program), title_(std::move(title)), unit_(unit), rounds_(rounds) {}

  /// A contestant that does its work `count` times a round; one time counts.
  Comparison& add(std::string name, std::size_t count, std::function<void()> work) {
    return add_value(std::move(name), [count, work = std::move(work)] {
      const double all = seconds_of([&] {
        for (std::size_t i = 0; i < count; ++i) work();
      });
      return all / static_cast<double>(count);
    });
  }

  /// A contestant that gives its own figure a round, in seconds if it is a time.
  Comparison& add_value(std::string name, std::function<double()> value) {
    contestants_.push_back({std::move(name), std::move(value), {}, {}});
    return *this;
  }

  /// `name` ought to take at most `limit` times what `peer` takes.
  Comparison& at_most(std::string_view name, double limit, std::string_view peer) {
    if (Contestant* const contestant = find(name))
      contestant->limits.push_back({std::string(peer), limit});
    return *this;
  }

  /// Shows the ratio, with nothing it ought to be.
  Comparison& beside(std::string_view name, std::string_view peer) {
    return at_most(name, 0, peer);
  }

  /// Runs one round unmeasured, then the rounds, and prints. Nothing if it is not wanted.
  void run() {
    if (!program_.wants(title_)) return;
    for (Contestant& contestant : contestants_) contestant.value();
    for (int round = 0; round < rounds_; ++round)
      for (Contestant& contestant : contestants_)
        contestant.figures.push_back(contestant.value() * unit_.per_second);
    if (program_.is_table_) {
      for (const Contestant& contestant : contestants_) print_rows(contestant);
    } else {
      std::printf("%-52s %10s %-5s %7s\n", title_.c_str(), "median", unit_.name, "least");
      for (const Contestant& contestant : contestants_) print(contestant);
      std::printf("\n");
    }
    std::fflush(stdout);
  }

 private:
  struct Limit {
    std::string peer;
    double ratio;
  };
  struct Contestant {
    std::string name;
    std::function<double()> value;
    std::vector<double> figures;
    std::vector<Limit> limits;
  };

  Contestant* find(std::string_view name) {
    const auto found = std::find_if(contestants_.begin(), contestants_.end(),
                                    [&](const Contestant& one) { return one.name == name; });
    return found == contestants_.end() ? nullptr : &*found;
  }

  void print(const Contestant& contestant) {
    const double middle = median(contestant.figures);
    std::printf("  %-50s %10.2f %5s %7.2f", contestant.name.c_str(), middle, "",
                *std::min_element(contestant.figures.begin(), contestant.figures.end()));
    for_each_ratio(contestant, [](const Contestant& peer, double ratio, double limit) {
      std::printf("  %.2f of %s", ratio, peer.name.c_str());
      if (limit != 0) std::printf(" (at most %.2f%s)", limit, ratio > limit ? ", MISSED" : "");
    });
    std::printf("\n");
  }

  void print_rows(const Contestant& contestant) {
    for_each_ratio(contestant, [&](const Contestant& peer, double ratio, double limit) {
      std::printf("| %s: %s | %.2f %s | %s: %.2f | %.2f |", title_.c_str(), contestant.name.c_str(),
                  median(contestant.figures), unit_.name, peer.name.c_str(), median(peer.figures),
                  ratio);
      if (limit != 0) std::printf(" %.2f%s", limit, ratio > limit ? ", missed" : "");
      std::printf(" |\n");
    });
  }

  // Calls f(peer, ratio, limit) for the peers that are there, and counts the limits that are
  // missed.
  template <class F>
  void for_each_ratio(const Contestant& contestant, F f) {
    for (const Limit& limit : contestant.limits) {
      const Contestant* const peer = find(limit.peer);
      if (peer == nullptr) continue;
      const double ratio = median(contestant.figures) / median(peer->figures);
      if (limit.ratio != 0 && ratio > limit.ratio) ++program_.missed_;
      f(*peer, ratio, limit.ratio);
    }
  }

  Program& program_;
  std::string title_;
  Unit unit_;
  int rounds_;
  std::vector<Contestant> contestants_;
};

inline Program::Comparison Program::compare(std::string title, Unit unit, int rounds) {
  return {*this, std::move(title), unit, rounds_ > 0 ? rounds_ : rounds};
}

}  // namespace bench
