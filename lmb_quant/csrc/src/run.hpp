// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "layer_sweep.hpp"

namespace lmbq {

void run_layer(const Layer& layer, const float* x, const float* skip, float* out, int64_t n, int64_t h, int64_t w,
               int threads, KeptBits bits = {});
// One image's sums of bits times alpha, on the calling thread, in `memory` of that many bytes: a task may not allocate.
size_t sums_bytes(const Layer& layer, const Shape& shape);
void run_sums(const Layer& layer, const Shape& shape, const uint8_t* bits, float* out, char* memory);
// How many values a tensor has. Throws Error where they, or the scratch rows that they need, cannot be addressed.
size_t elements(int64_t n, int64_t h, int64_t w, int64_t c);
void run_binarize(const Isa& isa, const Thresholding& th, const float* x, uint8_t* bits, int64_t n, int64_t h,
                  int64_t w, int64_t c, int threads);

}  // namespace lmbq
