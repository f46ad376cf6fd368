#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What including brood costs: the time to compile (-std=c++20 -O0 -c) a file with one header of
# brood and nothing else, beside that of one with <thread>, <future>, <functional>, <vector>,
# <string> and <chrono>. The time is the processor's, user and system. It is taken in ROUNDS
# interleaved rounds, of which the least counts, as other work on the machine only adds to it; the
# median stands beside it. Fails when the least of subprocess.hpp is more than 0.8 of the
# baseline's, or that of brood.hpp more than 1.5.
#
#   bench/compile_time.sh [COMPILER [ROUNDS]]        by default: g++, 7 rounds
set -eu

compiler=${1:-g++}
rounds=${2:-7}
include=$(cd "$(dirname "$0")/../include" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '#include <%s>\n' thread future functional vector string chrono > "$work/baseline.cpp"
names=(baseline)
for header in "$include"/brood/*.hpp; do
  name=$(basename "$header" .hpp)
  [ "$name" = format ] || names+=("$name")  # its cost is fmt's
done
for name in "${names[@]:1}"; do
  echo "#include <brood/$name.hpp>" > "$work/$name.cpp"
done

# milliseconds NAME: processor time of one compilation of NAME.cpp.
milliseconds() {
  local TIMEFORMAT='%U %S' spent
  spent=$({ time "$compiler" -std=c++20 -O0 -c -I"$include" "$work/$1.cpp" -o "$work/$1.o"; } 2>&1)
  awk '{ printf "%d\n", ($1 + $2) * 1000 }' <<< "$spent"
}

for name in "${names[@]}"; do
  milliseconds "$name" > /dev/null  # so that all files are in the cache
done
for ((round = 0; round < rounds; ++round)); do
  for name in "${names[@]}"; do
    milliseconds "$name" >> "$work/$name.times"
  done
done

least() { sort -n "$work/$1.times" | head -n 1; }
median() { sort -n "$work/$1.times" | sed -n "$(((rounds + 1) / 2))p"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

"$compiler" --version | head -n 1
baseline=$(least baseline)
printf '%-24s %10s %6s %6s %10s\n' "a file with only" "least, ms" "ratio" "limit" "median, ms"
failed=0
for name in "${names[@]}"; do
  case $name in
    subprocess) limit=0.8 ;;
    brood) limit=1.5 ;;
    *) limit= ;;
  esac
  title="<brood/$name.hpp>"
  [ "$name" = baseline ] && title="the standard headers"
  found=$(ratio "$(least "$name")" "$baseline")
  printf '%-24s %10d %6s %6s %10d\n' "$title" "$(least "$name")" "$found" "$limit" \
    "$(median "$name")"
  if [ -n "$limit" ] && awk -v r="$found" -v l="$limit" 'BEGIN { exit !(r > l) }'; then
    echo "<brood/$name.hpp> takes more than $limit of the baseline" >&2
    failed=1
  fi
done
exit "$failed"
