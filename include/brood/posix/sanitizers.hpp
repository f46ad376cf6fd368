// SPDX-License-Identifier: MIT
// Whether this is a build with a sanitizer, which has handlers and bookkeeping of its own.
#pragma once

namespace brood::posix {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__SANITIZE_HWADDRESS__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
inline constexpr bool sanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||
    __has_feature(memory_sanitizer) || __has_feature(hwaddress_sanitizer);
#else
inline constexpr bool sanitized = false;
#endif

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool address_sanitized = true;
#elif defined(__has_feature)
inline constexpr bool address_sanitized = __has_feature(address_sanitizer);
#else
inline constexpr bool address_sanitized = false;
#endif

// ThreadSanitizer lets a signal's handler run only in those blocking calls that it knows: poll is
// one, waitid is not.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitized = true;
#elif defined(__has_feature)
inline constexpr bool thread_sanitized = __has_feature(thread_sanitizer);
#else
inline constexpr bool thread_sanitized = false;
#endif

}  // namespace brood::posix
