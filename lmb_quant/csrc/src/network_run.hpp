// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "network.hpp"
#include "part_clock.hpp"
#include "pixels.hpp"

namespace lmbq {

// Runs a network on one image; both images fit it and do not overlap. Returns whether every value of the result is finite.
// clock, of one thread, may be null.
bool run_network(const Network& network, const Pixels& in, const Pixels& out, int threads, PartClock* clock = nullptr);

}  // namespace lmbq
