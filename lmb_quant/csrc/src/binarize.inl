// SPDX-License-Identifier: Apache-2.0
// Threshold and pack rows. The order of the additions is part of the definition: columns top to bottom, then left to
// right. Included inside an anonymous namespace. The float vector V fulfils:
//
//   V::lanes                          8 or 16
//   V::zero(), V::set1(x)             the same number in all lanes
//   V::load(p), v.store(p)            lanes floats, at any address
//   V::load_part(p, n)                the first n < lanes only, the rest is 0
//   add(a, b), sub(a, b), mul(a, b)   each rounds once
//   abs(a)
//   ge(a, b)                          bit i is 1 where a[i] >= b[i]; 0 for NaN

template <class V>
inline void put_mask(uint8_t* p, unsigned m) {
    if (V::lanes == 16) {
        const uint16_t both = (uint16_t)m;  // one store, from a mask register where there are any
        memcpy(p, &both, sizeof both);
    } else {
        p[0] = (uint8_t)m;
    }
}

template <class V>
inline unsigned tail_bits(int n) {
    return n >= V::lanes ? (V::lanes == 16 ? 0xffffu : 0xffu) : (1u << n) - 1;
}

template <class V>
inline unsigned local_bit(V x, V sum, V n) {
    V nx = mul(x, n);
    V bound = mul(add(abs(nx), abs(sum)), V::set1(-kTieMargin));
    return ge(sub(nx, sum), bound);
}

template <class V, bool PART>
inline V read(const float* p, int n) {
    return PART ? V::load_part(p, n) : V::load(p);
}

struct Affine {
    const float *shift, *gain;  // per channel; read where AFFINE says that they are there
};

// The value that is compared: x, or x - shift of its channel.
template <class V, bool PART, bool AFFINE>
inline V shifted(const float* x, Affine a, int c, int n) {
    const V v = read<V, PART>(x + c, n);
    return AFFINE ? sub(v, read<V, PART>(a.shift + c, n)) : v;
}

// What it is compared with: the sum or mean, or gain of its channel times it.
template <class V, bool PART, bool AFFINE>
inline V scaled(V sum, Affine a, int c, int n) {
    return AFFINE ? mul(sum, read<V, PART>(a.gain + c, n)) : sum;
}

// Everything the loops read is copied to locals: a store through uint8_t* may alias any field.
template <class V, int KIND, bool AFFINE>
void binarize_pointwise(const BinarizeRow& r) {
    const int C = r.channels, W = r.width, full = C / V::lanes * V::lanes, rest = C - full;
    const size_t stride = r.bit_stride;
    const float *p = r.center, *t = r.t;
    const Affine a{r.shift, r.gain};
    uint8_t* o = r.bits;
    auto bit = [](V v, V th) {
        if (KIND == TH_NONE) return ge(v, V::zero());
        if (KIND == TH_CHANNEL) return ge(sub(v, th), V::zero());
        return local_bit(v, th, V::set1(1.0f));
    };
    for (int x = 0; x < W; x++, p += C, o += stride) {
        int c = 0;
        for (; c < full; c += V::lanes) {
            const V th = KIND == TH_NONE ? V::zero() : scaled<V, false, AFFINE>(V::load(t + c), a, c, 0);
            put_mask<V>(o + c / 8, bit(shifted<V, false, AFFINE>(p, a, c, 0), th));
        }
        if (rest) {
            const V th = KIND == TH_NONE ? V::zero() : scaled<V, true, AFFINE>(V::load_part(t + c, rest), a, c, rest);
            put_mask<V>(o + c / 8, bit(shifted<V, true, AFFINE>(p, a, c, rest), th) & tail_bits<V>(rest));
        }
    }
}

// Pixels [x, x + pixels) of one vector of channels, whose windows are in the frame: each value is read once a row, the sums
// of the window's columns stay in registers.
template <class V, int K, bool PART, bool AFFINE>
LMBQ_INLINE void interior_stretch(const BinarizeRow& r, int x, int pixels, int c) {
    const size_t C = r.channels, stride = r.bit_stride;
    const int n = r.channels - c;
    const unsigned kept = tail_bits<V>(n);
    const float* at[K];  // the column that enters the window next
#pragma GCC unroll 9
    for (int i = 0; i < K; i++) at[i] = r.rows[i] + (size_t)(x - K / 2) * C + c;
    auto column = [&]() __attribute__((always_inline)) {
        V s = read<V, PART>(at[0], n);
#pragma GCC unroll 9
        for (int i = 1; i < K; i++) s = add(s, read<V, PART>(at[i], n));
#pragma GCC unroll 9
        for (int i = 0; i < K; i++) at[i] += C;
        return s;
    };
    V columns[K];
#pragma GCC unroll 9
    for (int j = 0; j < K - 1; j++) columns[j] = column();
    const V shift = AFFINE ? read<V, PART>(r.shift + c, n) : V::zero();
    const V gain = AFFINE ? read<V, PART>(r.gain + c, n) : V::zero(), count = V::set1((float)(K * K));
    const float* center = r.center + (size_t)x * C + c;
    uint8_t* bits = r.bits + x * stride + c / 8;
#pragma GCC unroll 3
    for (int i = 0; i < pixels; i++, center += C, bits += stride) {
        columns[K - 1] = column();
        V s = columns[0];
#pragma GCC unroll 9
        for (int j = 1; j < K; j++) s = add(s, columns[j]);
        V v = read<V, PART>(center, n);
        if (AFFINE) v = sub(v, shift), s = mul(s, gain);
        const unsigned m = local_bit(v, s, count);
        put_mask<V>(bits, PART ? m & kept : m);
#pragma GCC unroll 9
        for (int j = 0; j < K - 1; j++) columns[j] = columns[j + 1];
    }
}

// What a few rows of a stretch take stays in the first cache while its channels, and the rows to be made, are gone through.
constexpr int kStretchFloats = 1024;

template <class V, int K, bool AFFINE>
void binarize_interior(const BinarizeRow* rows, int count) {
    const int half = K / 2, until = rows->width - half, C = rows->channels, few = kStretchFloats / C;
    const int stretch = few < 8 ? 8 : few;
    for (int x = half; x < until; x += stretch) {
        const int pixels = until - x < stretch ? until - x : stretch;
        for (int i = 0; i < count; i++) {
            int c = 0;
            for (; c + V::lanes <= C; c += V::lanes) interior_stretch<V, K, false, AFFINE>(rows[i], x, pixels, c);
            if (c < C) interior_stretch<V, K, true, AFFINE>(rows[i], x, pixels, c);
        }
    }
}

// Pixels [first, until), whatever of their windows is in the frame.
template <class V, bool AFFINE>
void binarize_anywhere(const BinarizeRow& r, int first, int until) {
    const int C = r.channels, W = r.width, half = r.window / 2, pad = (C + 15) / 16 * 16, nrows = r.nrows;
    const int mask = r.ring_pixels - 1;
    const size_t stride = r.bit_stride;
    float* const columns = r.columns;
    const float* const center = r.center;
    const Affine a{r.shift, r.gain};
    const float* const* const all = r.rows;
    uint8_t* const bits = r.bits;
    auto ring = [=](int x) { return columns + (size_t)(x & mask) * pad; };
    int ready = first < half ? 0 : first - half;  // columns before it are in the ring or no longer needed
    for (int x = first; x < until; x++) {
        const int x0 = x < half ? 0 : x - half, x1 = x + half < W ? x + half : W - 1;
        for (; ready <= x1; ready++)
            for (int c = 0; c < C; c += V::lanes) {
                const size_t at = (size_t)ready * C + c;
                const int n = C - c;
                V s = n < V::lanes ? V::load_part(all[0] + at, n) : V::load(all[0] + at);
                for (int i = 1; i < nrows; i++)
                    s = add(s, n < V::lanes ? V::load_part(all[i] + at, n) : V::load(all[i] + at));
                s.store(ring(ready) + c);
            }
        const float* p = center + (size_t)x * C;
        const V n = V::set1((float)(nrows * (x1 - x0 + 1)));
        for (int c = 0; c < C; c += V::lanes) {
            V s = V::load(ring(x0) + c);
            for (int j = x0 + 1; j <= x1; j++) s = add(s, V::load(ring(j) + c));
            const int left = C - c;
            const unsigned bit =
                left < V::lanes
                    ? local_bit(shifted<V, true, AFFINE>(p, a, c, left), scaled<V, true, AFFINE>(s, a, c, left), n)
                    : local_bit(shifted<V, false, AFFINE>(p, a, c, 0), scaled<V, false, AFFINE>(s, a, c, 0), n);
            put_mask<V>(bits + x * stride + c / 8, bit & tail_bits<V>(left));
        }
    }
}

// A window of a width known at compile time, every row of it in frame, and in the middle of the row every column.
template <class V, int K, bool AFFINE>
void binarize_local(const BinarizeRow* rows, int count) {
    const int half = K / 2, W = rows->width;
    binarize_interior<V, K, AFFINE>(rows, count);
    for (int i = 0; i < count; i++) {
        binarize_anywhere<V, AFFINE>(rows[i], 0, half);
        binarize_anywhere<V, AFFINE>(rows[i], W - half, W);
    }
}

template <class V, bool AFFINE>
void binarize_by_mean(const BinarizeRow* rows, int count) {
    bool whole = rows->width >= rows->window;  // windows in the middle of the rows
    for (int i = 0; i < count; i++) whole &= rows[i].nrows == rows[i].window;
    if (rows->threshold == TH_LOCAL && whole) switch (rows->window) {
            case 3: return binarize_local<V, 3, AFFINE>(rows, count);
            case 5: return binarize_local<V, 5, AFFINE>(rows, count);
#if !defined(LMBQ_WASM)  // which is loaded over a network: no code for what no network there has
            case 7: return binarize_local<V, 7, AFFINE>(rows, count);
            case 9: return binarize_local<V, 9, AFFINE>(rows, count);
#endif
        }
    for (int i = 0; i < count; i++) {
        if (rows->threshold == TH_GLOBAL) binarize_pointwise<V, TH_GLOBAL, AFFINE>(rows[i]);
        else binarize_anywhere<V, AFFINE>(rows[i], 0, rows[i].width);
    }
}

template <class V>
void binarize_rows(const BinarizeRow* rows, int count) {
    if (rows->threshold == TH_LOCAL || rows->threshold == TH_GLOBAL) {
        if (rows->shift) return binarize_by_mean<V, true>(rows, count);
        return binarize_by_mean<V, false>(rows, count);
    }
    for (int i = 0; i < count; i++) {
        if (rows->threshold == TH_NONE) binarize_pointwise<V, TH_NONE, false>(rows[i]);
        else binarize_pointwise<V, TH_CHANNEL, false>(rows[i]);
    }
}
