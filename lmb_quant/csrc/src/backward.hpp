// SPDX-License-Identifier: Apache-2.0
// The backward pass of a layer that trains.
#pragma once
#include <cstdint>

#include "layer.hpp"

namespace lmbq {

// Whether run_backward has the gradient convolutions of a layer.
bool has_gradients(const Layer& layer);
void run_backward(const Layer& layer, lmbq_backward& b, int64_t n, int64_t h, int64_t w, int threads);

}  // namespace lmbq
