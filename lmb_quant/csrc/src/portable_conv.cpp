// SPDX-License-Identifier: Apache-2.0
// The convolution in plain C++: everything the interface allows, groups included. 64-bit words, one xor and popcount a
// word. Other instruction sets take it for what their own does not do.
#include <math.h>
#include <string.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline

namespace lmbq {
namespace {

struct F1 {
    static constexpr int lanes = 1;
    float v;
    static F1 zero() { return {0.0f}; }
    static F1 set1(float x) { return {x}; }
    static F1 load(const float* p) { return {*p}; }
    static F1 load_part(const float* p, int) { return {*p}; }
    void store(float* p) const { *p = v; }
    void store_part(float* p, int) const { *p = v; }
};
inline F1 add(F1 a, F1 b) { return {a.v + b.v}; }
inline F1 sub(F1 a, F1 b) { return {a.v - b.v}; }
inline F1 mul(F1 a, F1 b) { return {a.v * b.v}; }
inline F1 div(F1 a, F1 b) { return {a.v / b.v}; }
inline F1 select_gt(F1 a, F1 b, F1 yes, F1 no) { return a.v > b.v ? yes : no; }
inline F1 sub_twice(F1 a, F1 b) { return {a.v - (b.v + b.v)}; }
inline float exp2_of_low_bits(float t) {
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&t, &bits, sizeof bits);
    return t;
}
inline F1 exp2_of_low_bits(F1 t) { return {exp2_of_low_bits(t.v)}; }

#include "epilogue.inl"

int popcount(uint64_t v) {
    v -= v >> 1 & 0x5555555555555555u;
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    return (int)(((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

int group_channels(const ConvPlan& p) { return p.in_channels / p.groups; }
int group_words(const ConvPlan& p) { return (group_channels(p) + 63) / 64; }

int supports(const ConvPlan& p) { return (int64_t)p.kh * p.kw * group_channels(p) < (1 << 23); }
int unit(const ConvPlan& p) { return p.groups * group_words(p); }
int build_segments(const ConvPlan& p, Segment* out) {
    for (int ky = 0; out && ky < p.kh; ky++) out[ky] = {ky, 0, p.kw};
    return p.kh;
}
size_t weight_bytes(const ConvPlan& p) { return (size_t)p.out_channels * p.kh * p.kw * group_words(p) * 8; }

void pack_weights(const ConvPlan& p, const uint8_t* bits, void* out) {
    const int words = group_words(p), bytes = (group_channels(p) + 7) / 8, rows = p.out_channels * p.kh * p.kw;
    uint64_t* dst = (uint64_t*)out;
    for (int i = 0; i < rows; i++, bits += bytes)
        for (int w = 0; w < words; w++) {
            uint64_t v = 0;
            for (int b = 0; b < 8 && w * 8 + b < bytes; b++) v |= (uint64_t)bits[w * 8 + b] << (8 * b);
            *dst++ = v;
        }
}

size_t act_row_bytes(const ConvPlan& p, int out_width) { return (size_t)columns_read(p, out_width) * unit(p) * 8; }

uint64_t bits_at(const uint8_t* p, int from, int count) {  // up to 64 bits from any position
    uint64_t v = 0;
    for (int i = 0; i < count; i++) v |= (uint64_t)(p[(from + i) / 8] >> ((from + i) % 8) & 1) << i;
    return v;
}

void expand_row(const ConvPlan& p, const uint8_t* bits, int bit_stride, int width, int left, int out_width,
                void* act) {
    const int words = group_words(p), per = group_channels(p), n = columns_read(p, out_width);
    uint64_t* o = (uint64_t*)act;
    for (int c = 0; c < n; c++) {
        const int x = c - left;
        const uint8_t* px = x >= 0 && x < width ? bits + (size_t)x * bit_stride : nullptr;
        for (int g = 0; g < p.groups; g++)
            for (int w = 0; w < words; w++, o++) {
                const int from = g * per + w * 64, count = per - w * 64 < 64 ? per - w * 64 : 64;
                if (!px) *o = 0;
                else if (from % 8 == 0 && count == 64) {
                    *o = 0;
                    for (int b = 0; b < 8; b++) *o |= (uint64_t)px[from / 8 + b] << (8 * b);
                } else *o = bits_at(px, from, count);
            }
    }
}

struct Row {
    template <int ACT, int SKIP>
    void run(const ConvPlan& p, const ConvRow& r) const {
        const int words = group_words(p), u = p.unit, per_out = p.out_channels / p.groups;
        const uint64_t* weights = (const uint64_t*)p.weights;
        const RowEnd<F1, ACT, SKIP> end(p, r);
        for (int x = 0; x < r.width; x++) {
            const auto px = end.pixel((size_t)x);
            const uint64_t* w = weights;
            for (int o = 0; o < p.out_channels; o++) {
                int count = 0;
                for (int s = 0; s < p.nsegments; s++) {
                    const Segment row = p.segments[s];
                    const uint64_t* a = (const uint64_t*)r.act[row.row] + (size_t)x * p.sw * u + o / per_out * words;
                    for (int kx = 0; kx < row.count; kx++, a += (size_t)p.dw * u)
                        for (int i = 0; i < words; i++) count += popcount(a[i] ^ *w++);
                }
                end.write(Params<F1, ACT>(p, o), F1{(float)count}, px, o);
            }
        }
    }
};

}  // namespace

const ConvKernel portable_conv = {"portable-popcount", supports,      unit,       build_segments, weight_bytes,
                                  pack_weights,        act_row_bytes, expand_row, dispatch_row<Row>};

}  // namespace lmbq
