// SPDX-License-Identifier: Apache-2.0
// The last step of a super-resolution network: detail in an image's place, onto its bilinear enlargement.
#pragma once
#include <stddef.h>

namespace lmbq {

struct Enlargement {
    const float* image;   // (n, c, h, w)
    const float* detail;  // (n, h, w, c * upscale * upscale)
    float* out;           // (n, c, upscale * h, upscale * w)
    int n, c, h, w, upscale;
    float alpha;
};

void enlarge(const Enlargement& e, int threads);

}  // namespace lmbq
