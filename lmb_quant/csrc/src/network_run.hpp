// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "network.hpp"
#include "pixels.hpp"

namespace lmbq {

// Runs a network on one image; both images fit it and do not overlap. Returns whether every value of the result is finite.
bool run_network(const Network& network, const Pixels& in, const Pixels& out, int threads);

}  // namespace lmbq
