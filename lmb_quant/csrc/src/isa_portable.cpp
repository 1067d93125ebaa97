// SPDX-License-Identifier: Apache-2.0
// Plain C++, with portable_conv.cpp.
#include <math.h>
#include <string.h>

#include "kernels.hpp"

#define LMBQ_INLINE inline

namespace lmbq {
namespace {

inline float exp2_of_low_bits(float t) {
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&t, &bits, sizeof bits);
    return t;
}

// Eight floats as a plain array: the compiler may vectorise it for the baseline instruction set.
struct F8 {
    static constexpr int lanes = 8;
    float v[8];
    static F8 zero() { return set1(0.0f); }
    static F8 set1(float x) {
        F8 r;
        for (float& e : r.v) e = x;
        return r;
    }
    static F8 load(const float* p) {
        F8 r;
        memcpy(r.v, p, sizeof r.v);
        return r;
    }
    static F8 load_part(const float* p, int n) {
        F8 r = zero();
        memcpy(r.v, p, (size_t)n * sizeof(float));
        return r;
    }
    void store(float* p) const { memcpy(p, v, sizeof v); }
    void store_part(float* p, int n) const { memcpy(p, v, (size_t)n * sizeof(float)); }
};
#define LMBQ_EACH(expr)                     \
    F8 r;                                   \
    for (int i = 0; i < 8; i++) r.v[i] = expr; \
    return r
inline F8 add(const F8& a, const F8& b) { LMBQ_EACH(a.v[i] + b.v[i]); }
inline F8 sub(const F8& a, const F8& b) { LMBQ_EACH(a.v[i] - b.v[i]); }
inline F8 mul(const F8& a, const F8& b) { LMBQ_EACH(a.v[i] * b.v[i]); }
inline const F8& held(const F8& a) { return a; }
inline F8 multiply_add(const F8& a, const F8& b, const F8& c) { LMBQ_EACH(a.v[i] * b.v[i] + c.v[i]); }
inline F8 exp2_of_low_bits(const F8& t) { LMBQ_EACH(exp2_of_low_bits(t.v[i])); }
inline F8 div(const F8& a, const F8& b) { LMBQ_EACH(a.v[i] / b.v[i]); }
inline F8 select_gt(const F8& a, const F8& b, const F8& yes, const F8& no) { LMBQ_EACH(a.v[i] > b.v[i] ? yes.v[i] : no.v[i]); }
inline F8 abs(const F8& a) { LMBQ_EACH(fabsf(a.v[i])); }
inline unsigned ge(const F8& a, const F8& b) {
    unsigned m = 0;
    for (int i = 0; i < 8; i++) m |= (unsigned)(a.v[i] >= b.v[i]) << i;
    return m;
}

struct Quad {
    float v[4];
    static Quad load(const float* p) {
        Quad q;
        memcpy(q.v, p, sizeof q.v);
        return q;
    }
    static Quad set1(float x) { return {{x, x, x, x}}; }
    void store(float* p) const { memcpy(p, v, sizeof v); }
};
inline Quad add(const Quad& a, const Quad& b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}}; }
inline Quad mul(const Quad& a, const Quad& b) { return {{a.v[0] * b.v[0], a.v[1] * b.v[1], a.v[2] * b.v[2], a.v[3] * b.v[3]}}; }
inline void transpose(Quad (&q)[4]) {
    for (int i = 0; i < 4; i++)
        for (int j = i + 1; j < 4; j++) {
            const float t = q[i].v[j];
            q[i].v[j] = q[j].v[i];
            q[j].v[i] = t;
        }
}

#include "binarize.inl"
#include "epilogue.inl"
#include "factor.inl"
#include "gradients.inl"
#include "real.inl"
#include "upscale_row.inl"

struct Pairs {
    using Value = int16_t;
    using Weight = int16_t;
    static constexpr int per = 2, zero = 0;
    struct Weights {
        int16_t v[16];
        static Weights load(const void* p) {
            Weights w;
            memcpy(w.v, p, sizeof w.v);
            return w;
        }
    };
    struct Sums {
        int32_t v[8];
        static Sums load(const int32_t* p) {
            Sums s;
            memcpy(s.v, p, sizeof s.v);
            return s;
        }
    };
    static void keep(const F8& v, int16_t* to) {
        uint32_t bits[8];
        memcpy(bits, v.v, sizeof bits);
        for (int i = 0; i < 8; i++) to[i] = (int16_t)bits[i];
    }
    static int32_t spread(int32_t four) { return four; }
};
inline void add_products(Pairs::Sums& s, int32_t four, const Pairs::Weights& w) {
    int16_t a[2];
    memcpy(a, &four, sizeof a);
    for (int i = 0; i < 8; i++) s.v[i] += a[0] * w.v[2 * i] + a[1] * w.v[2 * i + 1];
}
inline F8 floats(const Pairs::Sums& s) { LMBQ_EACH((float)s.v[i]); }

#include "int8.inl"

}  // namespace

static const GradientKernels kGradients = gradient_kernels<F8>();
static const RealKernels kReal = real_and_int8_kernels<F8, Pairs, 4, 1>();
const Isa isa_portable = {"portable", binarize_rows<F8>, factor_row<F8>, &portable_conv, &kGradients, &kReal};

}  // namespace lmbq
