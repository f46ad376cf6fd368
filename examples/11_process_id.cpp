// SPDX-License-Identifier: MIT
//
// 11. Process id: of the parent and of the child.
//
//     from multiprocessing import Process
//     import os
//
//     def info(title):
//         print(title)
//         print('module name:', __name__)
//         print('parent process:', os.getppid())
//         print('process id:', os.getpid())
//
//     def f(name):
//         info('function f')
//         print('hello', name)
//
//     if __name__ == '__main__':
//         info('main line')
//         p = Process(target=f, args=('bob',))
//         p.start()
//         p.join()
#include <brood/multiprocessing.hpp>
#include <brood/os.hpp>

#include <fmt/core.h>

#include <string>

using brood::multiprocessing::Process;
namespace os = brood::os;

void info(const std::string& title) {
  fmt::print("{}\n", title);
  fmt::print("module name: {}\n", "__main__");  // a C++ program is one module, in each process
  fmt::print("parent process: {}\n", os::getppid());
  fmt::print("process id: {}\n", os::getpid());
}

void f(const std::string& name) {
  info("function f");
  fmt::print("hello {}\n", name);
}

int main() {
  info("main line");
  Process p(f, "bob");
  p.start();
  p.join();
}
