// SPDX-License-Identifier: MIT
//
// 17. Fetching many pages with 30 threads, which mostly wait, and telling of each as it comes.
//
// A map tells which address a future belongs to. The pages are made up: one takes a nap to arrive,
// every tenth is missing.
//
//     with concurrent.futures.ThreadPoolExecutor(max_workers=30) as executor:
//         future_to_url = {executor.submit(load_url, url): url for url in urls}
//         for future in concurrent.futures.as_completed(future_to_url):
//             url = future_to_url[future]
//             try:
//                 data = future.result()
//             except Exception as exc:
//                 print(f'{url} generated an exception: {exc}')
//             else:
//                 print(f'{url} page is {len(data)} bytes')
#include <brood/futures.hpp>

#include <fmt/core.h>

#include <chrono>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>

namespace futures = brood::futures;
using namespace std::chrono_literals;

std::string load_url(const std::string& url, std::size_t number) {
  std::this_thread::sleep_for(20ms);
  if (number % 10 == 0) throw std::runtime_error("404 not found");
  return "<html>" + url + std::string(number, '.') + "</html>";
}

int main() {
  futures::ThreadPoolExecutor executor(30);
  std::unordered_map<futures::Future<std::string>, std::string> future_to_url;
  for (std::size_t number = 1; number <= 60; ++number) {
    const auto url = fmt::format("http://example.org/{:02}", number);
    future_to_url[executor.submit(load_url, url, number)] = url;
  }
  for (const auto& future : futures::as_completed(std::views::keys(future_to_url))) {
    const auto& url = future_to_url.at(future);
    try {
      fmt::print("{} page is {} bytes\n", url, future.result().size());
    } catch (const std::exception& error) {
      fmt::print("{} generated an exception: {}\n", url, error.what());
    }
  }
}
