// SPDX-License-Identifier: Apache-2.0
// 16-wide floats of AVX-512. Included at the head of a file, before anything else.
// LMBQ_EMULATE_AVX512 compiles the same code against SIMDe, to test it where the instructions do not exist.
#if defined(LMBQ_EMULATE_AVX512)
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
static simde__m512 emulated_cvtepi32_ps(simde__m512i v) {  // missing from SIMDe 0.7
    int i[16];
    float f[16];
    simde_mm512_storeu_si512(i, v);
    for (int k = 0; k < 16; k++) f[k] = (float)i[k];
    return simde_mm512_loadu_ps(f);
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#else
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline __attribute__((always_inline))

namespace lmbq {
namespace {

inline __mmask16 part(int n) { return (__mmask16)((1u << n) - 1); }

struct F16 {
    static constexpr int lanes = 16;
    __m512 v;
    static F16 zero() { return {_mm512_setzero_ps()}; }
    static F16 set1(float x) { return {_mm512_set1_ps(x)}; }
    static F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
#if defined(LMBQ_EMULATE_AVX512)
    static F16 load_part(const float* p, int n) {
        float t[16] = {0};
        memcpy(t, p, (size_t)n * 4);
        return load(t);
    }
    void store_part(float* p, int n) const {
        float t[16];
        store(t);
        memcpy(p, t, (size_t)n * 4);
    }
#else
    static F16 load_part(const float* p, int n) { return {_mm512_maskz_loadu_ps(part(n), p)}; }
    void store_part(float* p, int n) const { _mm512_mask_storeu_ps(p, part(n), v); }
#endif
    void store(float* p) const { _mm512_storeu_ps(p, v); }
};
LMBQ_INLINE F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
LMBQ_INLINE F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
LMBQ_INLINE F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
LMBQ_INLINE F16 multiply_add(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
LMBQ_INLINE F16 held(F16 a) {
#if !defined(LMBQ_EMULATE_AVX512)
    asm("" : "+v"(a.v));
#endif
    return a;
}
LMBQ_INLINE F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
LMBQ_INLINE F16 abs(F16 a) { return {_mm512_abs_ps(a.v)}; }
LMBQ_INLINE unsigned ge(F16 a, F16 b) { return (unsigned)_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
LMBQ_INLINE F16 select_gt(F16 a, F16 b, F16 yes, F16 no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), no.v, yes.v)};
}
LMBQ_INLINE F16 sub_twice(F16 a, F16 b) { return {_mm512_fnmadd_ps(b.v, _mm512_set1_ps(2.0f), a.v)}; }
LMBQ_INLINE F16 exp2_of_low_bits(F16 t) {
    const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3f800000)))};
}

}  // namespace
}  // namespace lmbq
