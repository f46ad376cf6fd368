// SPDX-License-Identifier: MIT
// What a launched process (launch.hpp) begins with.
#pragma once

namespace brood {
template <class Run>
class CallEntry;
namespace serialization {
class Reader;
}
}  // namespace brood

namespace brood::multiprocessing {

class Reduction;

/// A constant of the program, whose function reads what it needs and is then the process. The
/// Reader has a Reduction as context().
using LaunchEntry = CallEntry<void(serialization::Reader&)>;

}  // namespace brood::multiprocessing
