// SPDX-License-Identifier: Apache-2.0
// The sweep of a real convolution over one image: its rows wait in a ring, with zeros at their ends, so that the result
// may take their place. It goes by pieces of rows, so that what follows finds a piece in the cache.
#pragma once
#include "bands.hpp"
#include "part_clock.hpp"
#include "pixels.hpp"

namespace lmbq {

// Pixels of a piece of a row: a multiple of what the kernels compute at once, so few that some pieces stay in the second
// cache, and not fewer, for each is a call.
int piece_pixels(int width, int channels);

class RealSweep {
public:
    // The input is `source`, (h, w, channels), or the image where that is null.
    RealSweep(const Isa& isa, const RealPlan& plan, const float* source, const Pixels& image, int h, int w);
    void set_clock(PartClock* clock, int stage) { clock_ = clock, stage_ = stage; }
    void set_range(float offset, float gain) { has_range_ = true, offset_ = offset, gain_ = gain; }
    void lay_out(Carver& carver);
    void run(const Bands& bands, int band, bool in_place, RowSink& sink);

private:
    float* slot(int y) const { return ring_ + (size_t)(y % p_.kernel) * padded_; }
    void load(const RowSource& source, int y, int first, int until);

    const Isa& isa_;
    const RealPlan& p_;
    const float* source_;
    PixelReader reader_;
    const int h_, w_, half_;
    const size_t row_, padded_;
    bool has_range_ = false;
    float offset_ = 0, gain_ = 1;
    PartClock* clock_ = nullptr;
    int stage_ = 0;
    float* ring_ = nullptr;
    const float** rows_ = nullptr;
};

}  // namespace lmbq
