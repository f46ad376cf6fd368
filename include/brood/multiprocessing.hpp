// SPDX-License-Identifier: MIT
// Processes that run functions, queues between them, pools of them. Python counterpart: the module
// multiprocessing.
#pragma once

#include "multiprocessing/async_result.hpp"
#include "multiprocessing/errors.hpp"
#include "multiprocessing/pool.hpp"
#include "multiprocessing/process.hpp"
#include "multiprocessing/queues.hpp"
#include "os.hpp"

namespace brood::multiprocessing {

using os::cpu_count;

}  // namespace brood::multiprocessing
