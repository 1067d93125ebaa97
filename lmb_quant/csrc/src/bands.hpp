// SPDX-License-Identifier: Apache-2.0
// An image's rows in bands, one a task; where a result takes the place of its input, each band keeps copies of its
// neighbours' rows before any of them writes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "threshold.hpp"

namespace lmbq {

// As many bands as asked for, unless they would have fewer rows than that: a band reads some of its neighbours' too.
inline int bands_of(int wanted, int rows, int above, int below) {
    return std::max(1, std::min(wanted, rows / std::max(4, above + below)));
}

struct Bands {
    int rows, in_rows;  // of the result, of the input
    int bands = 1;
    int above = 0, below = 0;  // input rows that a band needs before and after its own
    size_t row_floats = 0;     // of the input
    float* halo = nullptr;     // of this image

    int first(int band) const { return (int)((int64_t)rows * band / bands); }
    size_t halo_floats() const { return bands > 1 ? (size_t)(above + below) * row_floats : 0; }
    float* halo_of(int band) const { return halo + (size_t)band * halo_floats(); }
    int halo_top(int band) const { return std::max(0, first(band) - above); }
    int halo_bottom(int band) const { return std::min(in_rows, first(band + 1) + below); }

    void copy_halo(const float* image, int band) const {
        float* to = halo_of(band);
        const int y0 = first(band), y1 = first(band + 1), t = halo_top(band), b = halo_bottom(band);
        if (t < y0) std::memcpy(to, image + (size_t)t * row_floats, (size_t)(y0 - t) * row_floats * sizeof(float));
        to += (size_t)above * row_floats;
        if (y1 < b) std::memcpy(to, image + (size_t)y1 * row_floats, (size_t)(b - y1) * row_floats * sizeof(float));
    }
    // The rows that copy_halo() took, for a band that writes over its input.
    void use_halo(RowSource& source, int band) const {
        if (bands == 1) return;
        const float* copy = halo_of(band);
        if (band > 0) source.set_top(copy, halo_top(band), first(band));
        if (band + 1 < bands) source.set_bottom(copy + (size_t)above * row_floats, first(band + 1));
    }
};

// Takes a result row by row, from the first of a band to its last, each from left to right.
struct RowSink {
    virtual float* row(int y) = 0;                        // where to write it
    virtual void done(int y, int first, int until) = 0;  // these pixels of it are written
protected:
    ~RowSink() = default;
};

}  // namespace lmbq
