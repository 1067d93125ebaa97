// SPDX-License-Identifier: Apache-2.0
#include "upscale_rows.hpp"

#include <algorithm>
#include <cmath>

#include "lmb_quant.h"

namespace lmbq {
namespace {

double cubic(double d) {  // a = -3/4, as in PyTorch
    constexpr double a = -0.75;
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

}  // namespace

void upscale_weights(int mode, int upscale, float (*weights)[kMaxTaps]) {
    const int reach = mode == LMBQ_BICUBIC ? 2 : 1;
    for (int p = 0; p < upscale; p++)
        for (int t = -reach; t <= reach; t++) {
            const double distance = std::fabs((p + 0.5) / upscale - 0.5 - t);
            weights[p][t + reach] = (float)(mode == LMBQ_BICUBIC ? cubic(distance) : std::max(0.0, 1 - distance));
        }
}

UpscaledRows::UpscaledRows(const Isa& isa, const Pixels& image, int mode, int upscale)
    : isa_(isa), image_(image), reader_(image), upscale_(upscale), reach_(mode == LMBQ_BICUBIC ? 2 : 1),
      row_((size_t)image.w + 2 * (size_t)reach_) {
    upscale_weights(mode, upscale, weights_);
}

void UpscaledRows::lay_out(Carver& carver) {
    const size_t taps = 2 * (size_t)reach_ + 1, c = (size_t)image_.channels;
    ring_ = carver.take<float>(c * taps * row_);
    column_ = carver.take<float>(reach_ == 2 ? taps * (size_t)upscale_ * row_ : row_);
    planes_ = carver.take<const float*>(c * taps);
    out_ = carver.take<float*>(c * (size_t)upscale_);
}

void UpscaledRows::start() { loaded_ = -1; }

float* UpscaledRows::slot(int channel, int y) const {
    const int taps = 2 * reach_ + 1;
    return ring_ + (size_t)(channel * taps + y % taps) * row_ + reach_;
}

void UpscaledRows::write(int y, const float* detail, float alpha) {
    const int taps = 2 * reach_ + 1, w = image_.w;
    if (loaded_ < 0) loaded_ = std::max(0, y - reach_);
    for (const int until = std::min(image_.h, y + reach_ + 1); loaded_ < until; loaded_++)
        for (int c = 0; c < image_.channels; c++) {
            float* to = slot(c, loaded_);
            reader_.plane_row(c, loaded_, to);
            for (int i = 1; i <= reach_; i++) to[-i] = to[0], to[w - 1 + i] = to[w - 1];
        }
    for (int c = 0; c < image_.channels; c++)
        for (int t = 0; t < taps; t++)
            planes_[c * taps + t] = slot(c, std::max(0, std::min(image_.h - 1, y - reach_ + t)));
    isa_.real->upscale_row({w, image_.channels, upscale_, taps, weights_, planes_, detail, alpha, column_, out_});
}

}  // namespace lmbq
