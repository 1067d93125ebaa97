// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "layer.hpp"

namespace lmbq {

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads);
void run_binarize(const Isa& isa, const Thresholding& th, const float* x, uint8_t* bits, int64_t n, int64_t h,
                  int64_t w, int64_t c, int threads);

}  // namespace lmbq
