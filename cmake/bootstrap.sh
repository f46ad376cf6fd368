#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs what building brood needs and this machine lacks: a C++20 compiler, CMake, Ninja, fmt
# and Catch2. Says nothing and does nothing when all is there.
#
#   cmake/bootstrap.sh          what the examples and the tests need
#   cmake/bootstrap.sh clang    also clang 16 or newer, for the preset of this name
#   cmake/bootstrap.sh asan     also that and its run-time library, for that preset
#   cmake/bootstrap.sh fuzz     the same, for the fuzzers
#   cmake/bootstrap.sh bench    also oneTBB and Boost, which the benchmarks compare with
#
# On Debian and Ubuntu it installs by apt-get, as root or through sudo. Elsewhere it says what to
# install and fails.
set -eu

# at_least WANTED COMMAND...: is the first version number that COMMAND prints WANTED or newer?
at_least() {
  wanted=$1
  shift
  command -v "$1" > /dev/null 2>&1 || return 1
  found=$("$@" 2> /dev/null | sed -n 's/^[^0-9]*\([0-9][0-9.]*\).*/\1/p' | head -n 1)
  [ -n "$found" ] || return 1
  [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]
}

# has_header HEADER...: does g++ find one of them?
has_header() {
  for header in "$@"; do
    if printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$header" |
      g++ -std=c++20 -E -x c++ - > /dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

has_gcc() { at_least 12 g++ -dumpfullversion; }
has_cmake() { at_least 3.25 cmake --version; }
has_ninja() { command -v ninja > /dev/null 2>&1; }
has_fmt() { has_header fmt/format.h; }
has_catch() { has_header catch2/catch_test_macros.hpp catch2/catch.hpp; }
has_bench() { has_header tbb/task_group.h && has_header boost/asio/use_future.hpp; }
# clang_command: names the newest clang++ from 16 on, the one that cmake/clang.cmake takes.
clang_command() {
  for compiler in clang++-22 clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 \
    clang++; do
    if at_least 16 "$compiler" -dumpversion; then
      echo "$compiler"
      return 0
    fi
  done
  return 1
}
has_clang() { clang_command > /dev/null; }
has_fuzz() {
  compiler=$(clang_command) || return 1
  program=$(mktemp)
  result=0
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    "$compiler" -fsanitize=fuzzer,address,undefined -x c++ - -o "$program" > /dev/null 2>&1 ||
    result=1
  rm -f "$program"
  return $result
}

# What each need is called by apt-get and by a human.
package_of() {
  case $1 in
    gcc) echo g++ ;;
    cmake) echo cmake ;;
    ninja) echo ninja-build ;;
    fmt) echo libfmt-dev ;;
    catch) echo catch2 ;;
    bench) echo libtbb-dev libboost-dev ;;
    clang)
      for package in clang-16 clang-17 clang-18 clang-19 clang-20 clang-21 clang-22; do
        if [ -n "$(apt-cache show "$package" 2> /dev/null | head -n 1)" ]; then
          echo "$package"
          return
        fi
      done
      echo clang
      ;;
    fuzz)
      if compiler=$(clang_command); then
        version=$("$compiler" -dumpversion | sed 's/\..*//')
      else
        version=$(package_of clang | sed -n 's/^clang-//p')
      fi
      echo "libclang-rt-${version:+$version-}dev"
      ;;
  esac
}
name_of() {
  case $1 in
    gcc) echo "GCC 12 or newer (g++)" ;;
    cmake) echo "CMake 3.25 or newer" ;;
    ninja) echo "Ninja" ;;
    fmt) echo "fmt 9 or newer, with headers (https://github.com/fmtlib/fmt)" ;;
    catch) echo "Catch2 2.13 or 3, with headers (https://github.com/catchorg/Catch2)" ;;
    bench) echo "oneTBB and Boost, with headers" ;;
    clang) echo "Clang 16 or newer (clang++)" ;;
    fuzz) echo "the run-time library of that Clang, with libFuzzer and AddressSanitizer" ;;
  esac
}

needs="gcc cmake ninja fmt catch"
for extra in "$@"; do
  case $extra in
    clang | bench) needs="$needs $extra" ;;
    asan | fuzz) needs="$needs clang fuzz" ;;
    *)
      echo "bootstrap.sh: '$extra' is not known; extras are: clang asan fuzz bench" >&2
      exit 2
      ;;
  esac
done

missing=
list_missing() {
  missing=
  for need in $needs; do
    "has_$need" || missing="$missing $need"
  done
}
# give_up SENTENCE: says it and what is missing, and fails.
give_up() {
  echo "$1" >&2
  for need in $missing; do echo "  - $(name_of "$need")" >&2; done
  exit 1
}

list_missing
[ -n "$missing" ] || exit 0

if ! command -v apt-get > /dev/null 2>&1; then
  give_up "brood is built with these, which this machine lacks; please install them:"
fi

if [ "$(id -u)" = 0 ]; then
  as_root="env"
elif command -v sudo > /dev/null 2>&1; then
  as_root="sudo env"
else
  give_up "Installing needs root or sudo, and there is neither. Missing:"
fi

# A list of packages that is partly out of reach can still hold all we need, so this may fail.
$as_root DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
  echo "bootstrap.sh: apt-get update failed; going on with the lists there are" >&2

packages=
for need in $missing; do packages="$packages $(package_of "$need")"; done
echo "bootstrap.sh: installing$packages"
# shellcheck disable=SC2086  # a list of words
$as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y \
  --no-install-recommends $packages < /dev/null || give_up "apt-get could not install all of these:"

list_missing
[ -z "$missing" ] || give_up "This system's packages are too old for brood. Please install by hand:"
