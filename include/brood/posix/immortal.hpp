// SPDX-License-Identifier: MIT
#pragma once

#include <new>

namespace brood::posix {

/// The one T of this program, made at the first call and never destroyed, since threads and static
/// objects may need it to the very end. Its memory is static too: what each fork touches, as most
/// of these are, lies together then, and few pages have to be copied. A T whose constructor is
/// private has this as its friend.
template <class T>
T& immortal() {
  alignas(T) static char memory[sizeof(T)];
  static T& object = *::new (static_cast<void*>(memory)) T;
  return object;
}

}  // namespace brood::posix
