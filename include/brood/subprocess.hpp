// SPDX-License-Identifier: MIT
// Running programs, as Python's subprocess does.
//
//     namespace subprocess = brood::subprocess;
//     std::string today = subprocess::check_output({"date", "+%A"});
//     int code = subprocess::call("exit 3", {.shell = true});
//     auto sorted = subprocess::run({"sort"}, {.input = "b\na\n", .capture_output = true});
//
//     subprocess::Popen server({"python3", "-m", "http.server"}, {.err = subprocess::DEVNULL});
//     server.terminate();          // and the destructor waits for its end
//
// A call is (command, options): subprocess/command.hpp and subprocess/options.hpp tell what both
// can be, subprocess/run.hpp and subprocess/pipeline.hpp have the calls, subprocess/popen.hpp the
// class. Nothing global changes in the calling process: no signal handler, and SIGPIPE and SIGCHLD
// stay as they are.
//
// The code of a child is known even when SIGCHLD is ignored (Linux 6.15 or newer; before, the
// kernel keeps no record, and the calls throw os::ChildProcessError then).
#pragma once

#include "requirements.hpp"

#include "subprocess/command.hpp"
#include "subprocess/errors.hpp"
#include "subprocess/options.hpp"
#include "subprocess/pipeline.hpp"
#include "subprocess/popen.hpp"
#include "subprocess/run.hpp"
#include "subprocess/streams.hpp"
