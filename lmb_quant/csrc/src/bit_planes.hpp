// SPDX-License-Identifier: Apache-2.0
// Bits of an image, channel by channel, in groups of four pixels: what the gradient of the weights is chosen by.
#pragma once
#include <cstddef>
#include <cstdint>

#include "layer.hpp"
#include "workspace.hpp"

namespace lmbq {

class BitPlanes {
public:
    BitPlanes(const Layer& layer, const Shape& shape);
    void lay_out(Carver& carver);
    // bits: (h, w, bit_stride) as the binarisation leaves them
    void fill(const uint8_t* bits);

    int groups() const { return groups_; }  // in a row of the output
    size_t plane() const { return plane_; }
    // [in_channel][kernel_w][oh + kernel_h - 1][groups] bytes: pixels 4 g + kx - pad_left ..., bits in the high half.
    // What is outside the frame is 0.
    const uint8_t* nibbles() const { return nibbles_; }

private:
    const Layer& layer_;
    Shape shape_;
    int groups_, rows_;
    size_t plane_, line_bytes_;
    uint8_t *nibbles_ = nullptr, *line_ = nullptr;
};

}  // namespace lmbq
