// SPDX-License-Identifier: Apache-2.0
#include "layer_sweep.hpp"

#include <algorithm>
#include <cstring>

namespace lmbq {

LayerImage::LayerImage(const Layer& l, const ConvPlan& p, const Shape& s) : layer(l), plan(p), shape(s) {
    const int half = l.threshold.window / 2;
    bands.rows = s.oh;
    bands.in_rows = s.h;
    bands.above = l.pad_top + half;
    bands.below = std::max(0, (p.kh - 1) * p.dh - l.pad_top) + half;
    bands.row_floats = in_row();
}

LayerSweep::LayerSweep(const LayerImage& like)
    : layer_(like.layer), p_(like.plan), shape_(like.shape),
      binarizer_(*layer_.isa, layer_.threshold, shape_.h, shape_.w, p_.in_channels), corrections_(layer_, shape_),
      in_row_(like.in_row()) {
    act_bytes_ = layer_.row_bytes(shape_.ow);
    reach_ = layer_.rows_read();
    ring_rows_ = std::min(reach_ + RowBinarizer::kAtOnce - 1, shape_.h);
    // at the time a row is packed, this many of the rows in its window are overwritten
    saved_rows_ = like.in_place ? std::max(0, layer_.threshold.window / 2 - layer_.pad_bottom) : 0;
}

void LayerSweep::lay_out(Carver& c) {
    binarizer_.lay_out(c);
    corrections_.lay_out(c);
    ring_ = c.take<char>(act_bytes_, (size_t)(ring_rows_ + 1));
    act_ = c.take<const void*>((size_t)p_.kh);
    saved_ = c.take<float>((size_t)saved_rows_, in_row_);
    factor_ = c.take<float>(p_.pixel_factor ? (size_t)shape_.ow : 0);
}

void LayerSweep::run(const LayerImage& image, int band, RowSink& sink) {
    const Bands& b = image.bands;
    const int y0 = b.first(band), y1 = b.first(band + 1), h = shape_.h;
    RowSource source(image.x, in_row_);
    if (image.in_place) {
        b.use_halo(source, band);
        source.set_saved(saved_, saved_rows_);
    }
    binarizer_.start(image.means);
    corrections_.start();
    char* zero_row = ring_ + act_bytes_ * (size_t)ring_rows_;
    std::memset(zero_row, 0, act_bytes_);

    const Owned owned{band == 0 ? 0 : y0 * p_.sh - layer_.pad_top, band + 1 == b.bands ? h : y1 * p_.sh - layer_.pad_top};
    const int last = std::min(h, (y1 - 1) * p_.sh - layer_.pad_top + reach_);  // no row from here on is read
    const int at_once = p_.sh <= reach_ ? RowBinarizer::kAtOnce : 1;  // where every row is read
    int packed = 0;  // rows before it are in the ring or no longer needed
    for (int y = y0; y < y1; y++) {
        const int top = y * p_.sh - layer_.pad_top, bottom = std::min(h, top + reach_);
        source.set_overwritten(image.in_place ? y : 0);
        for (packed = std::max(packed, std::max(0, top)); packed < bottom;) {
            const int count = std::min(at_once, last - packed);
            pack(image, source, packed, count, owned);
            packed += count;
        }
        for (int k = 0; k < p_.kh; k++) {
            const int r = top + k * p_.dh;
            act_[k] = r < 0 || r >= h ? zero_row : ring_ + act_bytes_ * (size_t)(r % ring_rows_);
        }
        if (saved_rows_)
            std::memcpy(saved_ + (size_t)(y % saved_rows_) * in_row_, image.x + (size_t)y * in_row_,
                        in_row_ * sizeof(float));
        ConvRow row{};
        row.act = act_;
        row.width = shape_.ow;
        row.corr = corrections_.for_row(taps_in_frame(top, h, p_.kh, p_.dh));
        row.cls = corrections_.classes();
        row.factor = p_.pixel_factor ? factors(image, y) : nullptr;
        row.skip = image.skip ? image.skip + (size_t)y * image.out_row() : nullptr;
        row.out = sink.row(y);
        const int soon = top + p_.sh + reach_ - 1 + layer_.threshold.window / 2 + 1;
        if (y + 1 < y1 && soon >= 0 && soon < h && !image.bits.given && p_.nsegments) {
            row.prefetch = reinterpret_cast<const char*>(image.x + (size_t)soon * in_row_);
            row.prefetch_bytes = in_row_ * sizeof(float);
        }
        lap(image, LMBQ_PART_REST);
        layer_.conv->conv_row(p_, row);
        lap(image, LMBQ_PART_SUMS);
        sink.done(y, 0, shape_.ow);
    }
}

void LayerSweep::pack(const LayerImage& image, const RowSource& source, int y, int count, Owned owned) {
    lap(image, LMBQ_PART_REST);
    if (!image.bits.given) binarizer_.run(source, y, count);
    lap(image, LMBQ_PART_THRESHOLD);
    for (int i = 0; i < count; i++, y++) {
        const size_t at = (size_t)y * image.bit_row();
        const uint8_t* const bits = image.bits.given ? image.bits.given + at : binarizer_.bits(i);
        if (image.bits.kept && y >= owned.first && y < owned.until) std::memcpy(image.bits.kept + at, bits, image.bit_row());
        layer_.conv->expand_row(p_, bits, binarizer_.bit_stride(), shape_.w, layer_.pad_left, shape_.ow,
                                ring_ + act_bytes_ * (size_t)(y % ring_rows_));
    }
    lap(image, LMBQ_PART_PACKING);
}

// of a row that is not overwritten yet: output rows are those of the input
const float* LayerSweep::factors(const LayerImage& image, int y) const {
    layer_.isa->factor_row({image.x + (size_t)y * in_row_, shape_.w, p_.in_channels, p_.pixel_factor, factor_});
    return factor_;
}

}  // namespace lmbq
