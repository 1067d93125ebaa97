// SPDX-License-Identifier: Apache-2.0
#include "corrections.hpp"

#include <algorithm>

namespace lmbq {

TapRange taps_in_frame(int origin, int size, int kernel, int dilation) {
    const int first = origin >= 0 ? 0 : std::min(kernel, (-origin + dilation - 1) / dilation);
    const int until = origin >= size ? 0 : std::min(kernel, (size - 1 - origin) / dilation + 1);
    return {first, std::max(first, until)};
}

Corrections::Corrections(const Layer& layer, const Shape& shape) : layer_(layer), shape_(shape) {
    TapRange last{-1, -1};
    for (int ox = 0; ox < shape_.ow; ox++) {  // ranges move monotonically: equal ones are neighbours
        const TapRange r = columns(ox);
        nclasses_ += !(r == last);
        last = r;
    }
}

TapRange Corrections::columns(int ox) const {
    return taps_in_frame(ox * layer_.plan.sw - layer_.pad_left, shape_.w, layer_.plan.kw, layer_.plan.dw);
}

void Corrections::lay_out(Carver& carver) {
    cls_ = carver.take<uint16_t>((size_t)shape_.ow);
    ranges_ = carver.take<TapRange>((size_t)nclasses_);
    corr_ = carver.take<float>((size_t)nclasses_ * (size_t)layer_.plan.out_pad);
}

void Corrections::start() {
    int n = 0;
    for (int ox = 0; ox < shape_.ow; ox++) {
        const TapRange r = columns(ox);
        if (n == 0 || !(r == ranges_[n - 1])) ranges_[n++] = r;
        cls_[ox] = (uint16_t)(n - 1);
    }
    current_ = {-1, -1};
}

const float* Corrections::for_row(TapRange ky) {
    if (ky == current_) return corr_;
    current_ = ky;
    const ConvPlan& p = layer_.plan;
    const int bits = p.in_channels / p.groups;
    for (int k = 0; k < nclasses_; k++) {
        const TapRange kx = ranges_[k];
        float* corr = corr_ + (size_t)k * (size_t)p.out_pad;
        const float valid = (float)(bits * (ky.until - ky.first) * (kx.until - kx.first));
        std::fill(corr, corr + p.out_pad, valid);
        for (int y = 0; y < p.kh; y++)
            for (int x = 0; x < p.kw; x++) {
                if (y >= ky.first && y < ky.until && x >= kx.first && x < kx.until) continue;
                const int32_t* pop = p.tap_pop + (size_t)(y * p.kw + x) * (size_t)p.out_pad;
                for (int o = 0; o < p.out_pad; o++) corr[o] += (float)(2 * pop[o]);
            }
    }
    return corr_;
}

}  // namespace lmbq
