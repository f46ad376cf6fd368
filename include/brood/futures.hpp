// SPDX-License-Identifier: MIT
// Results that are not there yet, and who computes them. Python counterpart: concurrent.futures.
//
//     futures::ThreadPoolExecutor pool;
//     for (const std::string& page : pool.map(download, urls)) fmt::print("{}\n", page.size());
#pragma once

#include "requirements.hpp"

#include "futures/as_completed.hpp"
#include "futures/errors.hpp"
#include "futures/executor.hpp"
#include "futures/future.hpp"
#include "futures/map.hpp"
#include "futures/process_errors.hpp"
#include "futures/process_pool.hpp"
#include "futures/remote_exception.hpp"
#include "futures/thread_pool.hpp"
#include "futures/wait.hpp"
