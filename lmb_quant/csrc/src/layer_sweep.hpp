// SPDX-License-Identifier: Apache-2.0
// The sweep over one layer: rows are packed just ahead of the convolution that reads them, so that the input is
// still in cache, and so that the output may overwrite it.
#pragma once
#include "bands.hpp"
#include "corrections.hpp"
#include "part_clock.hpp"

namespace lmbq {

// Bits of a layer's input as the binarisation leaves them, (n, h, w, ceil(in_channels / 64) * 8 bytes): kept, or taken
// instead of binarising x, which is then read for the factor only.
struct KeptBits {
    const uint8_t* given = nullptr;
    uint8_t* kept = nullptr;
};

// A layer on one image. Pointers are to the image.
struct LayerImage {
    LayerImage(const Layer& layer, const ConvPlan& plan, const Shape& shape);
    size_t in_row() const { return (size_t)shape.w * (size_t)plan.in_channels; }
    size_t out_row() const { return (size_t)shape.ow * (size_t)plan.out_channels; }
    size_t bit_row() const { return (size_t)shape.w * (size_t)bit_bytes(plan.in_channels); }

    const Layer& layer;
    const ConvPlan& plan;
    Shape shape;
    Bands bands;
    KeptBits bits;
    const float *x = nullptr, *skip = nullptr;
    bool in_place = false;  // rows of x are overwritten as the result's are done
    const float* means = nullptr;
    PartClock* clock = nullptr;
    int stage = 0;  // its number on the clock
};

// One thread's part: bands of any image of the same size.
class LayerSweep {
public:
    explicit LayerSweep(const LayerImage& like);
    void lay_out(Carver& carver);
    void run(const LayerImage& image, int band, RowSink& sink);

private:
    struct Owned {  // rows of bits that two bands read: one keeps them
        int first, until;
    };
    void pack(const LayerImage& image, const RowSource& source, int y, int count, Owned owned);
    const float* factors(const LayerImage& image, int y) const;
    static void lap(const LayerImage& image, lmbq_part part) {
        if (image.clock) image.clock->lap(image.stage, part);
    }

    const Layer& layer_;
    const ConvPlan& p_;
    const Shape shape_;
    RowBinarizer binarizer_;
    Corrections corrections_;
    size_t act_bytes_, in_row_;
    int reach_, ring_rows_, saved_rows_;
    char* ring_ = nullptr;
    const void** act_ = nullptr;
    float *saved_ = nullptr, *factor_ = nullptr;
};

}  // namespace lmbq
