// SPDX-License-Identifier: Apache-2.0
// Pointwise convolutions of 8-bit numbers: a pixel's values as 127ths of its largest, an output's weights as 127ths of
// theirs. Sums are whole numbers and the rest has one order, so every instruction set has the same values. Included inside
// an anonymous namespace after upscale_row.inl. D multiplies:
//
//   Value, per, zero         what a value is kept as, how many of them are four bytes, and what 0 is kept as
//   keep(v, p)               V::lanes values from kWhole + n in each lane of V
//   spread(four)             four bytes of values to every lane
//   Weight, Weights          a weight; four bytes of them for each lane: load(p)
//   Sums                     a 32-bit sum in each lane: load(p)
//   add_products(s, a, w)    adds the products of spread values with weights
//   floats(s)                to V

template <class V, class D>
LMBQ_INLINE size_t int8_steps(const RealPlan& p) {
    return (size_t)(p.in_channels + D::per - 1) / D::per;
}

template <class V, class D>
size_t int8_weight_bytes(const RealPlan& p) {
    return group_vectors<V>(p) * int8_steps<V, D>(p) * V::lanes * 4;
}

// Blocks of up to NV vectors of outputs, in each [step][vector][lane][D::per].
template <class V, class D, int NV>
void int8_pack_weights(const RealPlan& p, const int8_t* oi, void* out, int32_t* corrections) {
    using Weight = typename D::Weight;
    const int I = p.in_channels, O = p.out_channels, vectors = group_vectors<V>(p);
    Weight* to = (Weight*)out;
    for (int v0 = 0; v0 < vectors; v0 += NV) {
        const int until = (v0 + NV < vectors ? v0 + NV : vectors) * V::lanes;
        for (int i = 0; i < (int)int8_steps<V, D>(p) * D::per; i += D::per)
            for (int o = v0 * V::lanes; o < until; o++)
                for (int j = i; j < i + D::per; j++) *to++ = o < O && j < I ? oi[(size_t)o * I + j] : 0;
    }
    for (int o = 0; o < O; o++) {
        corrections[o] = 0;
        for (int i = 0; i < I; i++) corrections[o] -= D::zero * oi[(size_t)o * I + i];
    }
}

// The largest size of a pixel's values, as bits: in their order those of what is not a number come last.
LMBQ_INLINE uint32_t largest_bits(const float* x, int n) {
    uint32_t largest = 0;
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// Keeps the values of one pixel. Returns their unit: not a number if one of them is none, or infinite.
template <class V, class D>
LMBQ_INLINE float int8_values(const float* x, int channels, typename D::Value* out) {
    constexpr uint32_t kInfinity = 0x7f800000u;
    const uint32_t size = largest_bits(x, channels);
    float largest;
    memcpy(&largest, &size, sizeof largest);
    const bool some = size < kInfinity && largest > 1e-30f;  // so that the factor is finite
    const V whole = V::set1(kWhole);
    int c = 0;
    if (!some) {  // zeros; what is no number would not become one by a factor of zero
        for (; c < channels; c += V::lanes) D::keep(whole, out + c);
        return size >= kInfinity ? NAN : 0.0f;
    }
    const V factor = V::set1(127.0f / largest);
    for (; c + V::lanes <= channels; c += V::lanes) D::keep(add(mul(V::load(x + c), factor), whole), out + c);
    if (c < channels) D::keep(add(mul(V::load_part(x + c, channels - c), factor), whole), out + c);
    return largest / 127.0f;
}

// Pixels as 8-bit numbers, `stride` of them apart.
template <class D>
struct Int8Pixels {
    const typename D::Value* values;
    size_t steps, stride;
    const float* units;
    size_t x;  // the first one
};

template <class V, class D, int PX, int NV>
void int8_tile(const RealPlan& p, const RealRow& r, const Int8Pixels<D>& a, int o, const uint8_t* w) {
    typename D::Sums acc[PX][NV];
#pragma GCC unroll 8
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) acc[i][v] = D::Sums::load(p.corrections + o + v * V::lanes);
    for (size_t s = 0; s < a.steps; s++, w += NV * V::lanes * 4) {
        typename D::Weights wv[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) wv[v] = D::Weights::load(w + v * V::lanes * 4);
#pragma GCC unroll 8
        for (int i = 0; i < PX; i++) {
            int32_t four;
            memcpy(&four, a.values + i * a.stride + s * D::per, sizeof four);
            const auto spread = D::spread(four);
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) add_products(acc[i][v], spread, wv[v]);
        }
    }
    V sums[PX][NV];
#pragma GCC unroll 8
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++)
            sums[i][v] = mul(mul(floats(acc[i][v]), V::set1(a.units[i])), V::load(p.channels.scale + o + v * V::lanes));
    real_keep_any<V, PX, NV>(p, r, sums, a.x, o, p.out_channels);
}

template <class V, class D, int PX, int NV>
void int8_any_block(const RealPlan& p, const RealRow& r, const Int8Pixels<D>& a, int o, const uint8_t* w, int vectors) {
    if (vectors >= NV) return int8_tile<V, D, PX, NV>(p, r, a, o, w);
    if constexpr (NV > 1) int8_any_block<V, D, PX, NV - 1>(p, r, a, o, w, vectors);
}

template <class V, class D, int PX, int NV>
void int8_pixels(const RealPlan& p, const RealRow& r, size_t x) {
    alignas(64) typename D::Value values[PX * kInt8Inputs];
    float units[PX];
    const size_t steps = int8_steps<V, D>(p), stride = (size_t)(p.in_channels + V::lanes - 1) / V::lanes * V::lanes;
    const int vectors = group_vectors<V>(p);
    for (int i = 0; i < PX; i++)
        units[i] = int8_values<V, D>(r.rows[0] + (x + i) * p.in_channels, p.in_channels, values + i * stride);
    const Int8Pixels<D> a{values, steps, stride, units, x};
    const uint8_t* w = p.int8_weights;
    for (int v = 0; v < vectors; v += NV) {
        const int here = vectors - v < NV ? vectors - v : NV;
        int8_any_block<V, D, PX, NV>(p, r, a, v * V::lanes, w, here);
        w += here * steps * V::lanes * 4;
    }
}

template <class V, class D, int PX, int NV>
void int8_row(const RealPlan& p, const RealRow& r) {
    const size_t width = r.width;
    size_t x = 0;
    for (; x + PX <= width; x += PX) int8_pixels<V, D, PX, NV>(p, r, x);
    if (x == width) return;
    if (width >= PX) return int8_pixels<V, D, PX, NV>(p, r, width - PX);  // some once more, to equal values
    for (; x < width; x++) int8_pixels<V, D, 1, NV>(p, r, x);
}

template <class V, class D, int PX, int NV>
void real_or_int8_row(const RealPlan& p, const RealRow& r) {
    return p.int8_weights ? int8_row<V, D, PX, NV>(p, r) : real_row<V, PX, NV>(p, r);
}

template <class V, class D, int PX, int NV>
constexpr RealKernels real_and_int8_kernels() {
    RealKernels kernels = real_kernels<V, PX, NV>();
    kernels.int8_weight_bytes = int8_weight_bytes<V, D>;
    kernels.int8_pack_weights = int8_pack_weights<V, D, NV>;
    kernels.row = real_or_int8_row<V, D, PX, NV>;
    return kernels;
}
