// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "layer_sweep.hpp"

namespace lmbq {

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads, KeptBits bits = {});
// One image's sums of bits times alpha, on the calling thread.
void run_sums(const Layer& layer, const uint8_t* bits, float* out, int h, int w);
void run_binarize(const Isa& isa, const Thresholding& th, const float* x, uint8_t* bits, int64_t n, int64_t h,
                  int64_t w, int64_t c, int threads);

}  // namespace lmbq
