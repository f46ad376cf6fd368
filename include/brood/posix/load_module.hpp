// SPDX-License-Identifier: MIT
// Loads a library that another process names, so that places in it (code.hpp) are found here.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "code.hpp"

namespace brood::posix {

/// Has the library with this id (CodePlace::module), whose file is `path` (module_path()), loaded
/// from now on, unless it is already. Runs its constructors. Throws std::invalid_argument that
/// names the file when it cannot be loaded, or is by now another build of it. Blocks as dlopen(3)
/// does.
void load_module(std::uint64_t module, const std::string& path);

// ---------------------------------------------------------------------------------------------

namespace loader {
// By such names a program need not link libdl where that stands apart (before glibc 2.34): null
// then, as no part of it has ever loaded a library.
static void* open(const char* path, int flags) __attribute__((__weakref__("dlopen")));
static int close(void* library) __attribute__((__weakref__("dlclose")));
static char* error() __attribute__((__weakref__("dlerror")));
}  // namespace loader

inline void load_module(std::uint64_t module, const std::string& path) {
  if (is_loaded(module)) return;
  std::string why = "\"";
  why += path;
  const bool has_loader = &loader::open != nullptr && &loader::close != nullptr;
  void* const library =
      has_loader && !path.empty() ? loader::open(path.c_str(), RTLD_NOW) : nullptr;
  if (library != nullptr) {
    if (is_loaded(module)) return;  // and never let go
    loader::close(library);
    why += "\" is not the build of it that the other process has loaded";
  } else {
    why += "\" is not loaded here";
    const char* const reason = has_loader && &loader::error != nullptr ? loader::error() : nullptr;
    if (reason != nullptr) {
      why += ", and can't be: ";
      why += reason;
    }
  }
  throw std::invalid_argument{why};
}

}  // namespace brood::posix
