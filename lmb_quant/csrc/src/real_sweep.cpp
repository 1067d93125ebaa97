// SPDX-License-Identifier: Apache-2.0
#include "real_sweep.hpp"

#include <algorithm>
#include <cstring>

namespace lmbq {

RealSweep::RealSweep(const Isa& isa, const RealPlan& plan, const float* source, const Pixels& image, int h, int w)
    : isa_(isa), p_(plan), source_(source), reader_(image), h_(h), w_(w), half_(plan.kernel / 2),
      row_((size_t)w * (size_t)plan.in_channels),
      padded_(((size_t)w + 2 * (size_t)half_) * (size_t)plan.in_channels + 16) {}

void RealSweep::lay_out(Carver& carver) {
    ring_ = carver.take<float>(padded_ * (size_t)(p_.kernel + 1));
    rows_ = carver.take<const float*>((size_t)p_.kernel);
}

void RealSweep::load(const RowSource& source, int y) {
    float* to = slot(y) + (size_t)half_ * (size_t)p_.in_channels;
    const float* from = to;
    if (source_) from = source.row(y);
    else reader_.row(y, to);
    if (has_range_) isa_.real->affine_row(from, offset_, gain_, to, row_);
    else if (from != to) std::memcpy(to, from, row_ * sizeof(float));
}

void RealSweep::run(const Bands& bands, int band, bool in_place, RowSink& sink) {
    RowSource source(source_, row_);
    if (in_place) bands.use_halo(source, band);
    std::memset(ring_, 0, padded_ * (size_t)(p_.kernel + 1) * sizeof(float));
    const float* const zeros = ring_ + padded_ * (size_t)p_.kernel;
    const int y0 = bands.first(band), y1 = bands.first(band + 1);
    int loaded = std::max(0, y0 - half_);  // rows before it are in the ring or no longer needed
    for (int y = y0; y < y1; y++) {
        for (const int until = std::min(h_, y + half_ + 1); loaded < until; loaded++) load(source, loaded);
        for (int k = 0; k < p_.kernel; k++) {
            const int r = y - half_ + k;
            rows_[k] = r < 0 || r >= h_ ? zeros : slot(r);
        }
        const float* center = slot(y) + (size_t)half_ * (size_t)p_.in_channels;
        isa_.real->row(p_, {rows_, w_, p_.skip ? center : nullptr, sink.row(y)});
        sink.done(y);
    }
}

}  // namespace lmbq
