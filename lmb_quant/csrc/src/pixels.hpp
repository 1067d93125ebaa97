// SPDX-License-Identifier: Apache-2.0
// One image as a caller has it: rows of it as floats, and rows of floats as it.
#pragma once
#include "kernels.hpp"
#include "workspace.hpp"

namespace lmbq {

struct Pixels {
    enum Format { PLANAR, INTERLEAVED, BYTES };
    Format format;
    void* data;
    int channels, h, w;
    size_t stride;  // elements from one row to the next, of one plane
    size_t plane;   // elements from one plane to the next, or 0

    void* at(int channel, int y) const;
};

// Bytes as floats in [0, 1].
const float* unit_bytes();

class PixelReader {
public:
    explicit PixelReader(const Pixels& image) : image_(image) {}
    void row(int y, float* to) const;  // (w, channels)
    void plane_row(int channel, int y, float* to) const;  // (w)

private:
    Pixels image_;
};

// One thread's way to write rows; tells whether all values were finite.
class PixelWriter {
public:
    // open: rows of planes that are written before the first of them is finished
    PixelWriter(const Isa& isa, const Pixels& image, int open) : isa_(isa), image_(image), open_(open) {}
    void lay_out(Carver& carver);
    void row(int y, const float* values);  // (w, channels)
    // Where to put rows of single channels; finish_planes() once all of row y are written.
    float* plane_row(int channel, int y);
    void finish_planes(int y);
    bool finite() const { return finite_; }

private:
    const Isa& isa_;
    Pixels image_;
    int open_;
    float* planes_ = nullptr;
    uint8_t* bytes_ = nullptr;
    bool finite_ = true;
};

}  // namespace lmbq
