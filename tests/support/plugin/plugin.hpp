// SPDX-License-Identifier: MIT
//
// The libraries that plugin.cmake builds, for tests that load them.
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "support/catch.hpp"

extern "C" {
// Of the library that the test is linked to.
int plugin_answer();
int plugin_die(int signal);
const char* plugin_own_words();  // (A variable may be copied into the program.)
}

namespace support {

inline std::string plugin_path(const std::string& kind) {
  return std::string(PLUGIN_DIR) + "/" + kind + "/plugin.so";
}

/// A library that was loaded while the program ran.
class Plugin {
 public:
  explicit Plugin(const std::string& path) : library_{::dlopen(path.c_str(), RTLD_NOW)} {
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
  }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  ~Plugin() { close(); }
  void close() {
    if (library_ != nullptr) ::dlclose(std::exchange(library_, nullptr));
  }

  const void* address(const char* name) const { return ::dlsym(library_, name); }
  template <class Function>
  Function* function(const char* name) const {
    return reinterpret_cast<Function*>(::dlsym(library_, name));
  }

 private:
  void* library_;
};

inline bool is_loaded(const std::string& path) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (library != nullptr) ::dlclose(library);
  return library != nullptr;
}

}  // namespace support
