// SPDX-License-Identifier: Apache-2.0
// AArch64 NEON: the byte-shuffle convolution of lut_conv.inl with 16-byte vectors.
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline __attribute__((always_inline))

namespace lmbq {
namespace {

struct F4 {
    static constexpr int lanes = 4;
    float32x4_t v;
    static F4 zero() { return {vdupq_n_f32(0)}; }
    static F4 set1(float x) { return {vdupq_n_f32(x)}; }
    static F4 load(const float* p) { return {vld1q_f32(p)}; }
    static F4 load_part(const float* p, int n) {
        float t[4] = {0, 0, 0, 0};
        memcpy(t, p, (size_t)n * 4);
        return load(t);
    }
    void store(float* p) const { vst1q_f32(p, v); }
    void store_part(float* p, int n) const {
        float t[4];
        store(t);
        memcpy(p, t, (size_t)n * 4);
    }
    static F4 low_words(uint8x16_t w) {
        return {vcvtq_f32_u32(vandq_u32(vreinterpretq_u32_u8(w), vdupq_n_u32(0xffff)))};
    }
    static F4 high_words(uint8x16_t w) { return {vcvtq_f32_u32(vshrq_n_u32(vreinterpretq_u32_u8(w), 16))}; }
};
LMBQ_INLINE F4 add(F4 a, F4 b) { return {vaddq_f32(a.v, b.v)}; }
LMBQ_INLINE F4 sub(F4 a, F4 b) { return {vsubq_f32(a.v, b.v)}; }
LMBQ_INLINE F4 mul(F4 a, F4 b) { return {vmulq_f32(a.v, b.v)}; }
LMBQ_INLINE F4 held(F4 a) { return a; }
LMBQ_INLINE F4 multiply_add(F4 a, F4 b, F4 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
LMBQ_INLINE F4 div(F4 a, F4 b) { return {vdivq_f32(a.v, b.v)}; }
LMBQ_INLINE F4 abs(F4 a) { return {vabsq_f32(a.v)}; }
LMBQ_INLINE F4 select_gt(F4 a, F4 b, F4 yes, F4 no) { return {vbslq_f32(vcgtq_f32(a.v, b.v), yes.v, no.v)}; }
LMBQ_INLINE F4 sub_twice(F4 a, F4 b) { return {vfmsq_f32(a.v, b.v, vdupq_n_f32(2.0f))}; }
LMBQ_INLINE F4 exp2_of_low_bits(F4 t) {
    const uint32x4_t shifted = vshlq_n_u32(vreinterpretq_u32_f32(t.v), 23);
    return {vreinterpretq_f32_u32(vaddq_u32(shifted, vdupq_n_u32(0x3f800000)))};
}

using Quad = F4;
LMBQ_INLINE void transpose(Quad (&q)[4]) {
    const float32x4x2_t a = vtrnq_f32(q[0].v, q[1].v), b = vtrnq_f32(q[2].v, q[3].v);
    q[0].v = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    q[1].v = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    q[2].v = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    q[3].v = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

struct F8 {  // two quads: a byte of bits at a time
    static constexpr int lanes = 8;
    float32x4_t a, b;
    static F8 zero() { return set1(0); }
    static F8 set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
    static F8 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
    static F8 load_part(const float* p, int n) {
        float t[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        memcpy(t, p, (size_t)n * 4);
        return load(t);
    }
    void store(float* p) const {
        vst1q_f32(p, a);
        vst1q_f32(p + 4, b);
    }
};
LMBQ_INLINE F8 add(F8 x, F8 y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
LMBQ_INLINE F8 sub(F8 x, F8 y) { return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)}; }
LMBQ_INLINE F8 mul(F8 x, F8 y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
LMBQ_INLINE F8 abs(F8 x) { return {vabsq_f32(x.a), vabsq_f32(x.b)}; }
LMBQ_INLINE unsigned ge(F8 x, F8 y) {
    static const uint16_t weight[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t m = vcombine_u16(vmovn_u32(vcgeq_f32(x.a, y.a)), vmovn_u32(vcgeq_f32(x.b, y.b)));
    return vaddvq_u16(vandq_u16(m, vld1q_u16(weight)));
}

struct B16 {
    static constexpr int lanes = 16;
    uint8x16_t v;
    operator uint8x16_t() const { return v; }
    static B16 zero() { return {vdupq_n_u8(0)}; }
    static B16 load(const uint8_t* p) { return {vld1q_u8(p)}; }
    static B16 table(const uint8_t* p) { return load(p); }
};
LMBQ_INLINE uint16x8_t words(B16 a) { return vreinterpretq_u16_u8(a.v); }
LMBQ_INLINE B16 lookup(B16 t, B16 i) { return {vqtbl1q_u8(t.v, i.v)}; }
LMBQ_INLINE B16 add(B16 a, B16 b) { return {vaddq_u8(a.v, b.v)}; }
LMBQ_INLINE B16 sub(B16 a, B16 b) { return {vsubq_u8(a.v, b.v)}; }
LMBQ_INLINE B16 add16(B16 a, B16 b) { return {vreinterpretq_u8_u16(vaddq_u16(words(a), words(b)))}; }
LMBQ_INLINE B16 add_high(B16 acc, B16 s) { return {vsraq_n_u8(acc.v, s.v, 4)}; }
LMBQ_INLINE B16 add_high_pair(B16 acc, B16 s, B16 t) { return add_high(add_high(acc, s), t); }
LMBQ_INLINE B16 times16(B16 a) { return {vshlq_n_u8(a.v, 4)}; }
LMBQ_INLINE B16 even_bytes(B16 a) { return {vreinterpretq_u8_u16(vandq_u16(words(a), vdupq_n_u16(255)))}; }
LMBQ_INLINE B16 odd_bytes(B16 a) { return {vreinterpretq_u8_u16(vshrq_n_u16(words(a), 8))}; }

LMBQ_INLINE void expand16(const uint8_t* a, const uint8_t* b, uint16_t* o) {
    // byte -> (low nibble, high nibble) as two bytes, then pair * 16 in 16 bits
    auto nibbles = [](const uint8_t* p) {
        uint8x8_t v = vld1_u8(p);
        uint8x8x2_t z = vzip_u8(vand_u8(v, vdup_n_u8(15)), vshr_n_u8(v, 4));
        return vcombine_u8(z.val[0], z.val[1]);
    };
    uint8x16_t pair = vsliq_n_u8(nibbles(a), nibbles(b), 4);
    vst1q_u16(o, vshll_n_u8(vget_low_u8(pair), 4));
    vst1q_u16(o + 8, vshll_n_u8(vget_high_u8(pair), 4));
}

#include "binarize.inl"
#include "epilogue.inl"
#include "factor.inl"
#include "gradients.inl"
#include "lut_conv.inl"
#include "real.inl"
#include "upscale_row.inl"

struct Pairs {
    using Value = int16_t;
    using Weight = int16_t;
    static constexpr int per = 2, zero = 0;
    struct Weights {
        int16x8_t v;
        static Weights load(const void* p) { return {vreinterpretq_s16_u8(vld1q_u8((const uint8_t*)p))}; }
    };
    struct Sums {
        int32x4_t v;
        static Sums load(const int32_t* p) { return {vld1q_s32(p)}; }
    };
    static void keep(F4 v, int16_t* to) { vst1_s16(to, vmovn_s32(vreinterpretq_s32_f32(v.v))); }
    static int16x8_t spread(int32_t four) { return vreinterpretq_s16_s32(vdupq_n_s32(four)); }
};
LMBQ_INLINE void add_products(Pairs::Sums& s, int16x8_t a, Pairs::Weights w) {
    const int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(w.v)), high = vmull_high_s16(a, w.v);
    s.v = vaddq_s32(s.v, vpaddq_s32(low, high));
}
LMBQ_INLINE F4 floats(Pairs::Sums s) { return {vcvtq_f32_s32(s.v)}; }

#include "int8.inl"

const ConvKernel kLut = {"neon-lut",           lut_supports,        lut_unit,       lut_segments, lut_weight_bytes<B16>,
                         lut_pack_weights<B16>, lut_act_row_bytes, lut_expand_row, dispatch_row<LutRow<B16, F4>>};
const GradientKernels kGradients = gradient_kernels<F4>();
const RealKernels kReal = real_and_int8_kernels<F4, Pairs, 6, 4>();

}  // namespace

const Isa isa_neon = {"neon", binarize_rows<F8>, factor_row<F8>, &kLut, &kGradients, &kReal};

}  // namespace lmbq
