// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VPOPCNTDQ: 16 output channels in 32-bit lanes, the activation word broadcast, xor + popcount + add.
#include "avx512.inl"

namespace lmbq {
namespace {

#include "binarize.inl"
#include "epilogue.inl"
#include "quad_sse.inl"
#include "factor.inl"
#include "gradients.inl"
#include "real.inl"
#include "upscale_row.inl"

// Bytes of values, 128 added, by bytes of weights.
struct Bytes {
    using Value = uint8_t;
    using Weight = int8_t;
    static constexpr int per = 4, zero = 128;
    struct Weights {
        __m512i v;
        static Weights load(const void* p) { return {_mm512_loadu_si512(p)}; }
    };
    using Sums = Weights;
    static void keep(F16 v, uint8_t* to) {
#if defined(LMBQ_EMULATE_AVX512)  // missing from SIMDe 0.7
        uint32_t bits[16];
        memcpy(bits, &v, sizeof bits);
        for (int i = 0; i < 16; i++) to[i] = (uint8_t)(bits[i] + zero);
#else
        const __m512i bytes = _mm512_add_epi32(_mm512_castps_si512(v.v), _mm512_set1_epi32(zero));
        _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8(bytes));
#endif
    }
    static __m512i spread(int32_t four) { return _mm512_set1_epi32(four); }
};
LMBQ_INLINE void add_products(Bytes::Sums& s, __m512i a, Bytes::Weights w) {
#if defined(LMBQ_EMULATE_AVX512)
    int32_t sums[16];
    uint8_t values[64];
    int8_t weights[64];
    memcpy(sums, &s, sizeof sums);
    memcpy(values, &a, sizeof values);
    memcpy(weights, &w, sizeof weights);
    for (int i = 0; i < 64; i++) sums[i / 4] += values[i] * weights[i];
    s = Bytes::Sums::load(sums);
#else
    asm("vpdpbusd %2,%1,%0" : "+v"(s.v) : "v"(a), "v"(w.v));  // as below: the compiler's own allocation spills
#endif
}
LMBQ_INLINE F16 floats(Bytes::Sums s) { return {_mm512_cvtepi32_ps(s.v)}; }

#include "int8.inl"

// acc += popcount(word ^ w), the compiler's own allocation of this triple spills (4.1 against 2.0 ms measured)
LMBQ_INLINE void accumulate(__m512i& acc, __m512i word, __m512i w) {
#if defined(LMBQ_EMULATE_AVX512)
    acc = _mm512_add_epi32(acc, simde_mm512_popcnt_epi32(_mm512_xor_si512(word, w)));
#else
    __m512i t;
    asm("vpxord %2,%3,%0\n\tvpopcntd %0,%0\n\tvpaddd %0,%1,%1" : "=&v"(t), "+v"(acc) : "v"(word), "v"(w));
#endif
}

constexpr int kOut = 16, kBlock = 4;  // lanes of a vector; vectors of outputs in a tile

int unit(const ConvPlan& p) { return (p.in_channels + 31) / 32; }
int supports(const ConvPlan& p) { return p.groups == 1 && (int64_t)p.kh * p.kw * p.in_channels < (1 << 23); }
int vectors(const ConvPlan& p) { return (p.out_channels + kOut - 1) / kOut; }

int build_segments(const ConvPlan& p, Segment* out) {
    const int u = unit(p), runs = p.dw == 1 ? 1 : p.kw, run = p.dw == 1 ? u * p.kw : u;
    if (out)
        for (int ky = 0, n = 0; ky < p.kh; ky++)
            for (int j = 0; j < runs; j++) out[n++] = {ky, j * p.dw * u, run};
    return p.kh * runs;
}

size_t weight_bytes(const ConvPlan& p) { return (size_t)vectors(p) * p.kh * p.kw * unit(p) * kOut * 4; }

// Blocks of up to 4 vectors of outputs, in each: [tap][word][vector][lane]
void pack_weights(const ConvPlan& p, const uint8_t* bits, void* out) {
    const int u = unit(p), taps = p.kh * p.kw, nv = vectors(p), bytes = (p.in_channels + 7) / 8;
    uint32_t* dst = (uint32_t*)out;
    for (int v0 = 0; v0 < nv; v0 += kBlock)
        for (int t = 0; t < taps; t++)
            for (int i = 0; i < u; i++)
                for (int o = v0 * kOut; o < (v0 + kBlock < nv ? v0 + kBlock : nv) * kOut; o++) {
                    uint32_t w = 0;
                    for (int b = 0; b < 4; b++)
                        if (o < p.out_channels && i * 4 + b < bytes)
                            w |= (uint32_t)bits[((size_t)o * taps + t) * bytes + i * 4 + b] << (8 * b);
                    *dst++ = w;
                }
}

size_t act_row_bytes(const ConvPlan& p, int out_width) { return ((size_t)columns_read(p, out_width) * unit(p) + 4) * 4; }

void expand_row(const ConvPlan& p, const uint8_t* bits, int bit_stride, int width, int left, int out_width,
                void* act) {
    const size_t bytes = (size_t)unit(p) * 4;
    const PaddedRow row = padded_row(p, width, left, out_width);
    uint8_t* to = (uint8_t*)act;
    memset(to, 0, row.left * bytes);
    to += row.left * bytes;
    if (bytes == (size_t)bit_stride) {
        memcpy(to, bits, row.width * bytes);
    } else if (bytes == 4) {
        for (size_t x = 0; x < row.width; x++) memcpy(to + x * 4, bits + x * (size_t)bit_stride, 4);
    } else {
        for (size_t x = 0; x < row.width; x++) memcpy(to + x * bytes, bits + x * (size_t)bit_stride, bytes);
    }
    memset(to + row.width * bytes, 0, row.right * bytes);
}

template <int ACT, int SKIP, int PX, int OB>
LMBQ_INLINE void tile(const ConvPlan& p, const ConvRow& r, int x, int o0, const uint32_t* weights) {
    __m512i acc[PX][OB];  // in registers only if every loop over it is unrolled
#pragma GCC unroll 6
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 4
        for (int b = 0; b < OB; b++) acc[i][b] = _mm512_setzero_si512();
    const size_t step = (size_t)p.sw * p.unit, at = x * step;
    const uint32_t* w = weights;
#pragma GCC unroll 1
    for (int s = 0; s < p.nsegments; s++) {
        const uint32_t* a = (const uint32_t*)r.act[p.segments[s].row] + at + p.segments[s].offset;
#pragma GCC unroll 2
        for (int n = p.segments[s].count; n > 0; n--, a++, w += OB * kOut) {
            __m512i wv[OB];
#pragma GCC unroll 4
            for (int b = 0; b < OB; b++) wv[b] = _mm512_load_si512((const void*)(w + b * kOut));
#pragma GCC unroll 6
            for (int i = 0; i < PX; i++) {
                const __m512i av = _mm512_set1_epi32((int)a[i * step]);
#pragma GCC unroll 4
                for (int b = 0; b < OB; b++) accumulate(acc[i][b], av, wv[b]);
            }
        }
    }
    const RowEnd<F16, ACT, SKIP> end(p, r);
    typename RowEnd<F16, ACT, SKIP>::Pixel px[PX];
#pragma GCC unroll 6
    for (int i = 0; i < PX; i++) px[i] = end.pixel((size_t)(x + i));
#pragma GCC unroll 4
    for (int b = 0; b < OB; b++) {
        const int o = o0 + b * kOut;
        const Params<F16, ACT> par(p, o);
#pragma GCC unroll 6
        for (int i = 0; i < PX; i++) end.write(par, F16{_mm512_cvtepi32_ps(acc[i][b])}, px[i], o);
    }
}

template <int ACT, int SKIP, int OB>
void block(const ConvPlan& p, const ConvRow& r, int o0, const uint32_t* w) {
    constexpr int kPixels = OB == kBlock ? 6 : 4;  // all 32 registers, or little code for what is rare
    Prefetch prefetch(r, r.width / kPixels);
    int x = 0;
    for (; x + kPixels <= r.width; x += kPixels) {
        prefetch.next();
        tile<ACT, SKIP, kPixels, OB>(p, r, x, o0, w);
    }
    for (; x < r.width; x++) tile<ACT, SKIP, 1, OB>(p, r, x, o0, w);
}

struct Row {
    template <int ACT, int SKIP>
    void run(const ConvPlan& p, const ConvRow& given) const {
        ConvRow r = given;
        const size_t per_vector = (size_t)p.kh * p.kw * p.unit * kOut;
        const uint32_t* w = (const uint32_t*)p.weights;
        for (int v = 0, nv = vectors(p); v < nv; v += kBlock, w += kBlock * per_vector) {
            switch (nv - v) {
                case 1: block<ACT, SKIP, 1>(p, r, v * kOut, w); break;
                case 2: block<ACT, SKIP, 2>(p, r, v * kOut, w); break;
                case 3: block<ACT, SKIP, 3>(p, r, v * kOut, w); break;
                default: block<ACT, SKIP, 4>(p, r, v * kOut, w);
            }
            r.prefetch = nullptr;
        }
    }
};

const ConvKernel kPopcount = {"avx512-vpopcntdq", supports,      unit,       build_segments, weight_bytes,
                              pack_weights,       act_row_bytes, expand_row, dispatch_row<Row>};
const GradientKernels kGradients = gradient_kernels<F16>();
const RealKernels kReal = real_and_int8_kernels<F16, Bytes, 6, 4>();

}  // namespace

const Isa isa_avx512 = {"avx512", binarize_rows<F16>, factor_row<F16>, &kPopcount, &kGradients, &kReal};
#if defined(LMBQ_AMX)
const Isa isa_amx = {"amx", binarize_rows<F16>, factor_row<F16>, &amx_conv, &kGradients, &kReal, &kPopcount};
#endif

}  // namespace lmbq
