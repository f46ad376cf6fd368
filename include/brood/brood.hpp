// SPDX-License-Identifier: MIT
// All of brood but the formatters, which need fmt: those are in brood/format.hpp.
#pragma once

#include "futures.hpp"
#include "multiprocessing.hpp"
#include "os.hpp"
#include "queue.hpp"
#include "serialization.hpp"
#include "subprocess.hpp"
#include "threading.hpp"
