// SPDX-License-Identifier: Apache-2.0
#include "bit_planes.hpp"

#include <cstring>

namespace lmbq {
namespace {

// Byte i of the result holds bit i of every byte: pixels become channels.
uint64_t transposed(uint64_t x) {
    uint64_t t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
    return x ^ t ^ (t << 28);
}

// Eight groups of four bits to the high halves of eight bytes.
uint64_t spread(uint64_t v) {
    v &= 0xffffffffu;
    v = (v | v << 16) & 0x0000ffff0000ffffu;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    return (v | v << 4) << 4 & 0xf0f0f0f0f0f0f0f0u;
}

constexpr int kAtOnce = 8;  // groups

}  // namespace

BitPlanes::BitPlanes(const Layer& layer, const Shape& shape)
    : layer_(layer), shape_(shape), groups_((shape.ow + 3) / 4), rows_(shape.oh + layer.plan.kh - 1) {
    plane_ = (size_t)rows_ * (size_t)groups_ + 2 * kAtOnce;
    const int columns = shape.w + layer.pad_left + layer.plan.kw + 4 * kAtOnce;
    line_bytes_ = (size_t)(columns / 8 + 2 * (int)sizeof(uint64_t));
}

void BitPlanes::lay_out(Carver& carver) {
    const ConvPlan& p = layer_.plan;
    nibbles_ = carver.take<uint8_t>((size_t)p.in_channels * (size_t)p.kw * plane_);
    line_ = carver.take<uint8_t>((size_t)8 * line_bytes_);
}

void BitPlanes::fill(const uint8_t* bits) {
    const ConvPlan& p = layer_.plan;
    const size_t stride = (size_t)bit_bytes(p.in_channels);
    const int pad = layer_.pad_left;
    for (int c0 = 0; c0 < p.in_channels; c0 += 8) {
        const int channels = p.in_channels - c0 < 8 ? p.in_channels - c0 : 8;
        for (int r = 0; r < rows_; r++) {
            const int y = r - layer_.pad_top;
            std::memset(line_, 0, 8 * line_bytes_);
            if (y >= 0 && y < shape_.h) {
                const uint8_t* row = bits + (size_t)y * (size_t)shape_.w * stride + (size_t)(c0 / 8);
                for (int x = 0; x < shape_.w; x += 8) {
                    uint64_t v = 0;
                    for (int i = 0; i < 8 && x + i < shape_.w; i++)
                        v |= (uint64_t)row[(size_t)(x + i) * stride] << (8 * i);
                    v = transposed(v);
                    const int at = x + pad, shift = at % 8;
                    for (int i = 0; i < channels; i++) {
                        const unsigned two = (unsigned)(v >> (8 * i) & 255) << shift;
                        uint8_t* to = line_ + (size_t)i * line_bytes_ + at / 8;
                        to[0] = (uint8_t)(to[0] | two);
                        to[1] = (uint8_t)(to[1] | two >> 8);
                    }
                }
            }
            for (int i = 0; i < channels; i++)
                for (int k = 0; k < p.kw; k++) {
                    uint8_t* to = nibbles_ + ((size_t)(c0 + i) * (size_t)p.kw + (size_t)k) * plane_ + (size_t)r * (size_t)groups_;
                    for (int g = 0; g < groups_; g += kAtOnce) {
                        const int at = 4 * g + k;
                        uint64_t v;
                        std::memcpy(&v, line_ + (size_t)i * line_bytes_ + at / 8, sizeof v);
                        v = spread(v >> (at % 8));
                        std::memcpy(to + g, &v, sizeof v);  // what is beyond a row is written again by the next
                    }
                }
        }
        for (int i = 0; i < channels * p.kw; i++)
            std::memset(nibbles_ + ((size_t)c0 * (size_t)p.kw + (size_t)i) * plane_ + plane_ - 2 * kAtOnce, 0, 2 * kAtOnce);
    }
}

}  // namespace lmbq
