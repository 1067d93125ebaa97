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
    ring_ = carver.take<float>(padded_, (size_t)(p_.kernel + 1));
    rows_ = carver.take<const float*>((size_t)p_.kernel);
}

int piece_pixels(int width, int channels) {
    constexpr int64_t kFloats = 24576, kAtOnce = 6;
    const int64_t pieces = std::max<int64_t>(1, ((int64_t)width * channels + kFloats / 2) / kFloats);
    return (int)((width + pieces * kAtOnce - 1) / (pieces * kAtOnce) * kAtOnce);
}

void RealSweep::load(const RowSource& source, int y, int first, int until) {
    const size_t channels = (size_t)p_.in_channels, at = (size_t)first * channels;
    const size_t n = (size_t)(until - first) * channels;
    float* to = slot(y) + (size_t)half_ * channels + at;
    const float* from = source_ ? source.row(y) + at : to;
    if (!source_) reader_.row(y, to);
    if (has_range_) isa_.real->affine_row(from, offset_, gain_, to, n);
    else if (from != to) isa_.real->copy_row(from, to, n);
}

void RealSweep::run(const Bands& bands, int band, bool in_place, RowSink& sink) {
    RowSource source(source_, row_);
    if (in_place) bands.use_halo(source, band);
    std::memset(ring_, 0, padded_ * (size_t)(p_.kernel + 1) * sizeof(float));
    const float* const zeros = ring_ + padded_ * (size_t)p_.kernel;
    const int y0 = bands.first(band), y1 = bands.first(band + 1);
    const size_t inputs = (size_t)p_.in_channels, outputs = (size_t)p_.out_channels;
    const int piece = piece_pixels(w_, std::max(p_.in_channels, p_.out_channels));
    for (int y = std::max(0, y0 - half_); y < std::min(h_, y0 + half_); y++) load(source, y, 0, w_);
    for (int y = y0; y < y1; y++) {
        const int entering = y + half_;
        int loaded = entering < h_ ? 0 : w_;  // pixels of the row that enters the window
        float* const out = sink.row(y);
        for (int x = 0; x < w_; x += piece) {
            const int until = std::min(w_, x + piece), wanted = source_ ? std::min(w_, until + half_) : w_;
            if (loaded < wanted) load(source, entering, loaded, wanted), loaded = wanted;
            for (int k = 0; k < p_.kernel; k++) {
                const int r = y - half_ + k;
                rows_[k] = (r < 0 || r >= h_ ? zeros : slot(r)) + (size_t)x * inputs;
            }
            const float* center = rows_[half_] + (size_t)half_ * inputs;
            if (clock_) clock_->lap(stage_, LMBQ_PART_REST);
            isa_.real->row(p_, {rows_, until - x, p_.skip ? center : nullptr, out + (size_t)x * outputs});
            if (clock_) clock_->lap(stage_, LMBQ_PART_SUMS);
            sink.done(y, x, until);
        }
    }
}

}  // namespace lmbq
