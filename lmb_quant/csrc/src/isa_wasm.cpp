// SPDX-License-Identifier: Apache-2.0
// WebAssembly with fixed-width SIMD: the byte-shuffle convolution of lut_conv.inl with 16-byte vectors. i8x16.popcnt would
// be slower on x86, which has no such instruction, and not faster on Arm: xor and popcnt stand for one shuffle.
// Without fused multiply-add real convolutions round twice, as the portable kernels do. Relaxed SIMD has it, where the
// CPU does, and a byte shuffle of one instruction on x86. Nothing is trained here: no gradients.
#include <string.h>
#include <wasm_simd128.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline __attribute__((always_inline))
#define LMBQ_SMALL __attribute__((noinline))  // seldom run, in many places: the engine is loaded over a network

namespace lmbq {
namespace {

struct F4 {
    static constexpr int lanes = 4;
    v128_t v;
    static F4 zero() { return {wasm_f32x4_const_splat(0)}; }
    static F4 set1(float x) { return {wasm_f32x4_splat(x)}; }
    static F4 load(const float* p) { return {wasm_v128_load(p)}; }
    LMBQ_SMALL static F4 load_part(const float* p, int n) {
        float t[4] = {0, 0, 0, 0};
        memcpy(t, p, (size_t)n * 4);
        return load(t);
    }
    void store(float* p) const { wasm_v128_store(p, v); }
    LMBQ_SMALL void store_part(float* p, int n) const {
        float t[4];
        store(t);
        memcpy(p, t, (size_t)n * 4);
    }
    static F4 low_words(v128_t w) {
        return {wasm_f32x4_convert_i32x4(wasm_v128_and(w, wasm_i32x4_const_splat(0xffff)))};
    }
    static F4 high_words(v128_t w) { return {wasm_f32x4_convert_i32x4(wasm_u32x4_shr(w, 16))}; }
};
LMBQ_INLINE F4 add(F4 a, F4 b) { return {wasm_f32x4_add(a.v, b.v)}; }
LMBQ_INLINE F4 sub(F4 a, F4 b) { return {wasm_f32x4_sub(a.v, b.v)}; }
LMBQ_INLINE F4 mul(F4 a, F4 b) { return {wasm_f32x4_mul(a.v, b.v)}; }
LMBQ_INLINE F4 held(F4 a) { return a; }
LMBQ_INLINE F4 multiply_add(F4 a, F4 b, F4 c) {
#ifdef __wasm_relaxed_simd__
    return {wasm_f32x4_relaxed_madd(a.v, b.v, c.v)};
#else
    return add(mul(a, b), c);
#endif
}
LMBQ_INLINE F4 div(F4 a, F4 b) { return {wasm_f32x4_div(a.v, b.v)}; }
LMBQ_INLINE F4 select_gt(F4 a, F4 b, F4 yes, F4 no) {
    return {wasm_v128_bitselect(yes.v, no.v, wasm_f32x4_gt(a.v, b.v))};
}
LMBQ_INLINE F4 sub_twice(F4 a, F4 b) { return sub(a, add(b, b)); }
LMBQ_INLINE F4 exp2_of_low_bits(F4 t) {
    return {wasm_i32x4_add(wasm_i32x4_shl(t.v, 23), wasm_i32x4_const_splat(0x3f800000))};
}

struct F8 {  // two quads: a byte of bits at a time
    static constexpr int lanes = 8;
    v128_t a, b;
    static F8 zero() { return set1(0); }
    static F8 set1(float x) { return {wasm_f32x4_splat(x), wasm_f32x4_splat(x)}; }
    static F8 load(const float* p) { return {wasm_v128_load(p), wasm_v128_load(p + 4)}; }
    LMBQ_SMALL static F8 load_part(const float* p, int n) {
        float t[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        memcpy(t, p, (size_t)n * 4);
        return load(t);
    }
    void store(float* p) const {
        wasm_v128_store(p, a);
        wasm_v128_store(p + 4, b);
    }
};
LMBQ_INLINE F8 add(F8 x, F8 y) { return {wasm_f32x4_add(x.a, y.a), wasm_f32x4_add(x.b, y.b)}; }
LMBQ_INLINE F8 sub(F8 x, F8 y) { return {wasm_f32x4_sub(x.a, y.a), wasm_f32x4_sub(x.b, y.b)}; }
LMBQ_INLINE F8 mul(F8 x, F8 y) { return {wasm_f32x4_mul(x.a, y.a), wasm_f32x4_mul(x.b, y.b)}; }
LMBQ_INLINE F8 abs(F8 x) { return {wasm_f32x4_abs(x.a), wasm_f32x4_abs(x.b)}; }
LMBQ_INLINE unsigned ge(F8 x, F8 y) {
    return (unsigned)(wasm_i32x4_bitmask(wasm_f32x4_ge(x.a, y.a)) | wasm_i32x4_bitmask(wasm_f32x4_ge(x.b, y.b)) << 4);
}

struct Quad {
    v128_t v;
    static Quad load(const float* p) { return {wasm_v128_load(p)}; }
    static Quad set1(float x) { return {wasm_f32x4_splat(x)}; }
    void store(float* p) const { wasm_v128_store(p, v); }
};
LMBQ_INLINE Quad add(Quad a, Quad b) { return {wasm_f32x4_add(a.v, b.v)}; }
LMBQ_INLINE Quad mul(Quad a, Quad b) { return {wasm_f32x4_mul(a.v, b.v)}; }
LMBQ_INLINE void transpose(Quad (&q)[4]) {
    const v128_t a = wasm_i32x4_shuffle(q[0].v, q[1].v, 0, 4, 1, 5), b = wasm_i32x4_shuffle(q[2].v, q[3].v, 0, 4, 1, 5);
    const v128_t c = wasm_i32x4_shuffle(q[0].v, q[1].v, 2, 6, 3, 7), d = wasm_i32x4_shuffle(q[2].v, q[3].v, 2, 6, 3, 7);
    q[0].v = wasm_i64x2_shuffle(a, b, 0, 2), q[1].v = wasm_i64x2_shuffle(a, b, 1, 3);
    q[2].v = wasm_i64x2_shuffle(c, d, 0, 2), q[3].v = wasm_i64x2_shuffle(c, d, 1, 3);
}

struct B16 {
    static constexpr int lanes = 16;
    v128_t v;
    operator v128_t() const { return v; }
    static B16 zero() { return {wasm_i8x16_const_splat(0)}; }
    static B16 load(const uint8_t* p) { return {wasm_v128_load(p)}; }
    static B16 table(const uint8_t* p) { return load(p); }
};
LMBQ_INLINE B16 lookup(B16 t, B16 i) {
#ifdef __wasm_relaxed_simd__
    return {wasm_i8x16_relaxed_swizzle(t.v, i.v)};
#else
    return {wasm_i8x16_swizzle(t.v, i.v)};
#endif
}
LMBQ_INLINE B16 add(B16 a, B16 b) { return {wasm_i8x16_add(a.v, b.v)}; }
LMBQ_INLINE B16 sub(B16 a, B16 b) { return {wasm_i8x16_sub(a.v, b.v)}; }
LMBQ_INLINE B16 add16(B16 a, B16 b) { return {wasm_i16x8_add(a.v, b.v)}; }
LMBQ_INLINE v128_t upper(B16 s) { return wasm_v128_and(s.v, wasm_u8x16_const_splat(0xf0)); }
LMBQ_INLINE B16 add_high(B16 acc, B16 s) { return {wasm_i8x16_add(acc.v, wasm_u16x8_shr(upper(s), 4))}; }
// the average of two multiples of 16 is exact: one shift serves both
LMBQ_INLINE B16 add_high_pair(B16 acc, B16 s, B16 t) {
    return {wasm_i8x16_add(acc.v, wasm_u16x8_shr(wasm_u8x16_avgr(upper(s), upper(t)), 3))};
}
LMBQ_INLINE B16 times16(B16 a) { return {wasm_i16x8_shl(wasm_v128_and(a.v, wasm_u8x16_const_splat(15)), 4)}; }
LMBQ_INLINE B16 even_bytes(B16 a) { return {wasm_v128_and(a.v, wasm_i16x8_const_splat(255))}; }
LMBQ_INLINE B16 odd_bytes(B16 a) { return {wasm_u16x8_shr(a.v, 8)}; }

LMBQ_INLINE void expand16(const uint8_t* a, const uint8_t* b, uint16_t* o) {
    auto nibbles = [](const uint8_t* p) {  // byte -> (low nibble, high nibble) as 16 bits each
        const v128_t v = wasm_u16x8_load8x8(p);
        return wasm_v128_and(wasm_v128_or(v, wasm_i16x8_shl(v, 4)), wasm_i16x8_const_splat(0x0f0f));
    };
    const v128_t pair = wasm_v128_or(nibbles(a), wasm_i16x8_shl(nibbles(b), 4));
    wasm_v128_store(o, wasm_i16x8_shl(wasm_u16x8_extend_low_u8x16(pair), 4));
    wasm_v128_store(o + 8, wasm_i16x8_shl(wasm_u16x8_extend_high_u8x16(pair), 4));
}

#include "binarize.inl"
#include "epilogue.inl"
#include "factor.inl"
#include "lut_conv.inl"
#include "real.inl"
#include "upscale_row.inl"

const ConvKernel kLut = {"wasm-lut",           lut_supports,        lut_unit,       lut_segments, lut_weight_bytes<B16>,
                         lut_pack_weights<B16>, lut_act_row_bytes, lut_expand_row, dispatch_row<LutRow<B16, F4>>};
const RealKernels kReal = real_kernels<F4, 2, 4>();

}  // namespace

const Isa isa_wasm = {"wasm", binarize_rows<F8>, factor_row<F8>, &kLut, nullptr, &kReal};

}  // namespace lmbq
