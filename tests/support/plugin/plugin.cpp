// SPDX-License-Identifier: MIT
//
// A library for the tests of code in libraries. It is built several times: another PLUGIN_ANSWER
// makes another build of it.
#include <signal.h>
#include <unistd.h>

extern "C" {
extern const char plugin_words[];
const char plugin_words[] = "washed up";
int plugin_count = 7;
int plugin_answer() { return PLUGIN_ANSWER; }
int plugin_die(int signal) { return ::kill(::getpid(), signal); }
const char* plugin_own_words() {
  static const char words[] = "washed up";
  return words;
}
}
