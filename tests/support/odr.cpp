// SPDX-License-Identifier: MIT
#include "support/odr.hpp"

std::vector<const void*> support::odr_there() { return odr_addresses(); }
