// SPDX-License-Identifier: MIT
// Threads and what they wait for each other with. Python counterpart: the module threading.
#pragma once

#include "requirements.hpp"

#include "threading/barrier.hpp"
#include "threading/condition.hpp"
#include "threading/errors.hpp"
#include "threading/event.hpp"
#include "threading/lock.hpp"
#include "threading/semaphore.hpp"
#include "threading/thread.hpp"
#include "threading/timer.hpp"
