// SPDX-License-Identifier: Apache-2.0
// AVX2: pack with 8-wide floats, convolve by byte shuffles (lut_conv.inl).
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline __attribute__((always_inline))

namespace lmbq {
namespace {

alignas(32) const int32_t kMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct F8 {
    static constexpr int lanes = 8;
    __m256 v;
    static F8 zero() { return {_mm256_setzero_ps()}; }
    static F8 set1(float x) { return {_mm256_set1_ps(x)}; }
    static F8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static F8 load_part(const float* p, int n) {
        return {_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i*)(kMask + 8 - n)))};
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store_part(float* p, int n) const {  // masked stores are slow on AMD before Zen 4
        __m128 h = _mm256_castps256_ps128(v);
        if (n & 4) {
            _mm_storeu_ps(p, h);
            h = _mm256_extractf128_ps(v, 1);
            p += 4;
        }
        if (n & 2) {
            _mm_storel_pi((__m64*)p, h);
            h = _mm_movehl_ps(h, h);
            p += 2;
        }
        if (n & 1) _mm_store_ss(p, h);
    }
    static F8 low_words(__m256i w) { return {_mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32(0xffff)))}; }
    static F8 high_words(__m256i w) { return {_mm256_cvtepi32_ps(_mm256_srli_epi32(w, 16))}; }
};
LMBQ_INLINE F8 add(F8 a, F8 b) { return {_mm256_add_ps(a.v, b.v)}; }
LMBQ_INLINE F8 sub(F8 a, F8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
LMBQ_INLINE F8 mul(F8 a, F8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
LMBQ_INLINE F8 held(F8 a) {
    asm("" : "+x"(a.v));
    return a;
}
LMBQ_INLINE F8 multiply_add(F8 a, F8 b, F8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
LMBQ_INLINE F8 div(F8 a, F8 b) { return {_mm256_div_ps(a.v, b.v)}; }
LMBQ_INLINE F8 abs(F8 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
LMBQ_INLINE unsigned ge(F8 a, F8 b) { return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)); }
LMBQ_INLINE F8 select_gt(F8 a, F8 b, F8 yes, F8 no) {
    return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))};
}
LMBQ_INLINE F8 sub_twice(F8 a, F8 b) { return {_mm256_fnmadd_ps(b.v, _mm256_set1_ps(2.0f), a.v)}; }
LMBQ_INLINE F8 exp2_of_low_bits(F8 t) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(t.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(0x3f800000)))};
}

struct B32 {
    static constexpr int lanes = 32;
    __m256i v;
    operator __m256i() const { return v; }
    static B32 zero() { return {_mm256_setzero_si256()}; }
    static B32 load(const uint8_t* p) { return {_mm256_load_si256((const __m256i*)p)}; }
    static B32 table(const uint8_t* p) {
        return {_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)p))};
    }
};
LMBQ_INLINE B32 lookup(B32 t, B32 i) { return {_mm256_shuffle_epi8(t.v, i.v)}; }
LMBQ_INLINE B32 add(B32 a, B32 b) { return {_mm256_add_epi8(a.v, b.v)}; }
LMBQ_INLINE B32 sub(B32 a, B32 b) { return {_mm256_sub_epi8(a.v, b.v)}; }
LMBQ_INLINE B32 add16(B32 a, B32 b) { return {_mm256_add_epi16(a.v, b.v)}; }
LMBQ_INLINE __m256i upper(B32 s) { return _mm256_and_si256(s.v, _mm256_set1_epi8((char)0xf0)); }
LMBQ_INLINE B32 add_high(B32 acc, B32 s) {
    return {_mm256_add_epi8(acc.v, _mm256_srli_epi16(upper(s), 4))};
}
// the average of two multiples of 16 is exact: one shift serves both
LMBQ_INLINE B32 add_high_pair(B32 acc, B32 s, B32 t) {
    return {_mm256_add_epi8(acc.v, _mm256_srli_epi16(_mm256_avg_epu8(upper(s), upper(t)), 3))};
}
LMBQ_INLINE B32 times16(B32 a) {
    return {_mm256_slli_epi16(_mm256_and_si256(a.v, _mm256_set1_epi8(15)), 4)};
}
LMBQ_INLINE B32 even_bytes(B32 a) { return {_mm256_and_si256(a.v, _mm256_set1_epi16(255))}; }
LMBQ_INLINE B32 odd_bytes(B32 a) { return {_mm256_srli_epi16(a.v, 8)}; }

LMBQ_INLINE void expand16(const uint8_t* a, const uint8_t* b, uint16_t* o) {
    auto nibbles = [](const uint8_t* p) {
        __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
        return _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 12)), _mm256_set1_epi32(0x000f000f));
    };
    __m256i r = _mm256_or_si256(_mm256_slli_epi16(nibbles(a), 4), _mm256_slli_epi16(nibbles(b), 8));
    _mm256_storeu_si256((__m256i*)o, r);
}

#include "binarize.inl"
#include "epilogue.inl"
#include "quad_sse.inl"
#include "factor.inl"
#include "gradients.inl"
#include "lut_conv.inl"
#include "real.inl"
#include "upscale_row.inl"

// Pairs of 16 bits: products of bytes would be cut to 16 bits.
struct Pairs {
    using Value = int16_t;
    using Weight = int16_t;
    static constexpr int per = 2, zero = 0;
    struct Weights {
        __m256i v;
        static Weights load(const void* p) { return {_mm256_loadu_si256((const __m256i*)p)}; }
    };
    using Sums = Weights;
    static void keep(F8 v, int16_t* to) {
        const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(v.v), _mm256_castps_si256(_mm256_set1_ps(kWhole)));
        _mm_storeu_si128((__m128i*)to, _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1)));
    }
    static __m256i spread(int32_t four) { return _mm256_set1_epi32(four); }
};
LMBQ_INLINE void add_products(Pairs::Sums& s, __m256i a, Pairs::Weights w) {
    s.v = _mm256_add_epi32(s.v, _mm256_madd_epi16(a, w.v));
}
LMBQ_INLINE F8 floats(Pairs::Sums s) { return {_mm256_cvtepi32_ps(s.v)}; }

#include "int8.inl"

const ConvKernel kLut = {"avx2-lut",           lut_supports,        lut_unit,       lut_segments, lut_weight_bytes<B32>,
                         lut_pack_weights<B32>, lut_act_row_bytes, lut_expand_row, dispatch_row<LutRow<B32, F8>>};

const GradientKernels kGradients = gradient_kernels<F8>();
const RealKernels kReal = real_and_int8_kernels<F8, Pairs, 6, 2>();

}  // namespace

const Isa isa_avx2 = {"avx2", binarize_rows<F8>, factor_row<F8>, &kLut, &kGradients, &kReal};

}  // namespace lmbq
