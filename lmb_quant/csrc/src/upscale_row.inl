// SPDX-License-Identifier: Apache-2.0
// The end of a network, one LR row at a time: the upscaled image plus a pixel shuffle, and bytes. Included inside an anonymous
// namespace after real.inl. Quad is four floats: load, set1, store, add, mul.

template <int TAPS>
LMBQ_INLINE void upscale_column(const UpscaleRow& r, const float* const* rows, const float* weights) {
    constexpr int kReach = TAPS / 2;
    float* const to = r.column;
    const int n = r.width + 2 * kReach;
    const float* from[TAPS];
    for (int t = 0; t < TAPS; t++) from[t] = rows[t] - kReach;
    for (int x = 0; x < n; x++) {
        float v = weights[0] * from[0][x];
#pragma GCC unroll 5
        for (int t = 1; t < TAPS; t++) v += weights[t] * from[t][x];
        to[x] = v;
    }
}

template <int R, int TAPS, bool DETAIL>
LMBQ_INLINE void upscale_places(const UpscaleRow& r, const float* detail, float* out) {
    const float* const column = r.column;
    const size_t stride = (size_t)r.channels * R * R;
    const float alpha = r.alpha;
    const int width = r.width;
    if constexpr (R == 4) {
        Quad weights[TAPS];
        for (int t = 0; t < TAPS; t++) {
            const float each[4] = {r.weights[0][t], r.weights[1][t], r.weights[2][t], r.weights[3][t]};
            weights[t] = Quad::load(each);
        }
        const Quad factor = Quad::set1(alpha);
        for (int x = 0; x < width; x++) {
            Quad v = mul(weights[0], Quad::set1(column[x]));
#pragma GCC unroll 5
            for (int t = 1; t < TAPS; t++) v = add(v, mul(weights[t], Quad::set1(column[x + t])));
            if (DETAIL) v = add(v, mul(factor, Quad::load(detail + (size_t)x * stride)));
            v.store(out + (size_t)x * 4);
        }
        return;
    }
    float weights[R][TAPS];
    for (int q = 0; q < R; q++)
        for (int t = 0; t < TAPS; t++) weights[q][t] = r.weights[q][t];
    for (int x = 0; x < width; x++)
#pragma GCC unroll 3
        for (int q = 0; q < R; q++) {
            float v = weights[q][0] * column[x];
#pragma GCC unroll 5
            for (int t = 1; t < TAPS; t++) v += weights[q][t] * column[x + t];
            if (DETAIL) v += alpha * detail[(size_t)x * stride + q];
            out[(size_t)x * R + q] = v;
        }
}

template <int R, int TAPS>
void upscale_row_of(const UpscaleRow& r) {
    for (int c = 0; c < r.channels; c++)
        for (int p = 0; p < R; p++) {
            upscale_column<TAPS>(r, r.planes + c * TAPS, r.weights[p]);
            float* const out = r.out[c * R + p];
            if (r.detail) upscale_places<R, TAPS, true>(r, r.detail + (c * R + p) * R, out);
            else upscale_places<R, TAPS, false>(r, nullptr, out);
        }
}

// Four taps of five, the first or the last has no weight: PyTorch's fused order.
LMBQ_INLINE float bicubic_sum(const float* v, size_t step, const float* weights, int first) {
    const float* w = weights + first;
    const float two = __builtin_fmaf(v[0], w[0], v[step] * w[1]);
    return __builtin_fmaf(v[3 * step], w[3], __builtin_fmaf(v[2 * step], w[2], two));
}

// Bicubic, by powers of two: PyTorch goes along the row first, and bits that follow from the result must be its own.
template <int R>
void bicubic_row_of(const UpscaleRow& r) {
    constexpr int kTaps = 5;
    const size_t width = r.width, wide = width * R, stride = (size_t)r.channels * R * R;
    float* const rows = r.column;  // [tap][wide]
    for (int c = 0; c < r.channels; c++) {
        for (int t = 0; t < kTaps; t++) {
            const float* from = r.planes[c * kTaps + t] - kTaps / 2;
            for (size_t x = 0; x < width; x++)
#pragma GCC unroll 4
                for (int q = 0; q < R; q++) {
                    const int first = q >= R / 2;
                    rows[t * wide + x * R + q] = bicubic_sum(from + x + first, 1, r.weights[q], first);
                }
        }
        for (int p = 0; p < R; p++) {
            const int first = p >= R / 2;
            float* const out = r.out[c * R + p];
            for (size_t x = 0; x < wide; x++) out[x] = bicubic_sum(rows + first * wide + x, wide, r.weights[p], first);
            if (!r.detail) continue;
            const float* d = r.detail + (c * R + p) * R;
            for (size_t x = 0; x < width; x++)
                for (int q = 0; q < R; q++) out[x * R + q] += r.alpha * d[x * stride + q];
        }
    }
}

inline void upscale_row(const UpscaleRow& r) {
    const bool bilinear = r.taps == 3;
    switch (r.upscale) {
        case 2: return bilinear ? upscale_row_of<2, 3>(r) : bicubic_row_of<2>(r);
        case 3: return bilinear ? upscale_row_of<3, 3>(r) : upscale_row_of<3, 5>(r);
        default: return bilinear ? upscale_row_of<4, 3>(r) : bicubic_row_of<4>(r);
    }
}

// The low byte of kWhole + v is v, rounded. NaN becomes 0.
template <class V>
void bytes_row(const float* x, uint8_t* out, size_t n) {
    constexpr size_t kPiece = 64;
    const V full = V::set1(255.0f), whole = V::set1(kWhole);
    alignas(64) float values[kPiece] = {};
    uint32_t bits[kPiece];
    for (; n > 0; x += kPiece, out += kPiece) {
        const size_t here = n < kPiece ? n : kPiece;
        if (here < kPiece) memcpy(values, x, here * sizeof(float));
        const float* from = here < kPiece ? values : x;
        for (size_t i = 0; i < kPiece; i += V::lanes) {
            V v = mul(V::load(from + i), full);
            v = select_gt(v, V::zero(), v, V::zero());
            add(select_gt(full, v, v, full), whole).store(values + i);
        }
        memcpy(bits, values, sizeof bits);
        if (here == kPiece) {
            for (size_t i = 0; i < kPiece; i++) out[i] = (uint8_t)bits[i];
        } else {
            for (size_t i = 0; i < here; i++) out[i] = (uint8_t)bits[i];
        }
        n -= here;
    }
}

inline void interleave_bytes(const uint8_t* planes, size_t plane, int channels, int width, uint8_t* __restrict out) {
    if (channels == 3) {
        const uint8_t *__restrict a = planes, *__restrict b = planes + plane, *__restrict c = b + plane;
        for (int x = 0; x < width; x++) out[3 * x] = a[x], out[3 * x + 1] = b[x], out[3 * x + 2] = c[x];
        return;
    }
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < width; x++) out[(size_t)x * channels + c] = planes[(size_t)c * plane + x];
}

template <class V, int PX, int NV>
constexpr RealKernels real_kernels() {
    return {real_weight_floats<V, NV>, real_pack_weights<V, NV>, nullptr, nullptr, real_row<V, PX, NV>, act_row<V>,
            add_row<V>,                copy_row<V>,              affine_row<V>,       upscale_row,         finite_row<V>,
            bytes_row<V>,              interleave_bytes};
}
