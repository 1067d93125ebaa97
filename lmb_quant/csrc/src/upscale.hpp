// SPDX-License-Identifier: Apache-2.0
// The last step of a super-resolution network: detail, added to the image upscaled bilinearly.
#pragma once
#include <stddef.h>

namespace lmbq {

struct Upscaling {
    const float* image;   // (n, c, h, w)
    const float* detail;  // (n, h, w, c * upscale * upscale)
    float* out;           // (n, c, upscale * h, upscale * w)
    int n, c, h, w, upscale;
    float alpha;
};

void upscale_with_detail(const Upscaling& job, int threads);

}  // namespace lmbq
