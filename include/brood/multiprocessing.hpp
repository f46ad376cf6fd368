// SPDX-License-Identifier: MIT
// Processes that run functions, queues between them, what they share, pools of them. Python
// counterpart: the module multiprocessing.
#pragma once

#include "requirements.hpp"

#include "multiprocessing/array.hpp"
#include "multiprocessing/async_result.hpp"
#include "multiprocessing/barrier.hpp"
#include "multiprocessing/condition.hpp"
#include "multiprocessing/connection.hpp"
#include "multiprocessing/context.hpp"
#include "multiprocessing/errors.hpp"
#include "multiprocessing/event.hpp"
#include "multiprocessing/launch.hpp"
#include "multiprocessing/lock.hpp"
#include "multiprocessing/pool.hpp"
#include "multiprocessing/process.hpp"
#include "multiprocessing/queues.hpp"
#include "multiprocessing/semaphore.hpp"
#include "multiprocessing/shared_memory.hpp"
#include "multiprocessing/simple_queue.hpp"
#include "multiprocessing/start_method.hpp"
#include "multiprocessing/value.hpp"
#include "multiprocessing/wait.hpp"
#include "os.hpp"

namespace brood::multiprocessing {

using os::cpu_count;

}  // namespace brood::multiprocessing
