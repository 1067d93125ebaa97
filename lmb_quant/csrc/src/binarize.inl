// SPDX-License-Identifier: Apache-2.0
// Threshold and pack one row. The order of the additions is part of the definition: columns top to bottom, then left to
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
    p[0] = (uint8_t)m;
    if (V::lanes == 16) p[1] = (uint8_t)(m >> 8);
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

// One vector of an interior pixel: adds the new column of the window, keeps it in the ring, compares.
template <class V, int K, bool PART, bool AFFINE>
inline unsigned interior_bit(const float* const (&rows)[K], size_t at, float* const (&cols)[K], int c, const float* x,
                             Affine a, int n) {
    V last = read<V, PART>(rows[0] + at, n);
#pragma GCC unroll 15
    for (int i = 1; i < K; i++) last = add(last, read<V, PART>(rows[i] + at, n));
    last.store(cols[K - 1] + c);
    V s = V::load(cols[0] + c);
#pragma GCC unroll 15
    for (int j = 1; j < K - 1; j++) s = add(s, V::load(cols[j] + c));
    return local_bit(shifted<V, PART, AFFINE>(x, a, c, n), scaled<V, PART, AFFINE>(add(s, last), a, c, n),
                     V::set1((float)(K * K)));
}

// K > 0: a window known at compile time, every row in frame. K == 0: anything.
template <class V, int K, bool AFFINE>
void binarize_local(const BinarizeRow& r) {
    const int C = r.channels, W = r.width, half = r.window / 2, pad = (C + 15) / 16 * 16, nrows = r.nrows;
    const int mask = r.ring_pixels - 1, full = C / V::lanes * V::lanes;
    const size_t stride = r.bit_stride;
    float* const columns = r.columns;
    const float* const center = r.center;
    const Affine a{r.shift, r.gain};
    const float* const* const all = r.rows;
    uint8_t* const bits = r.bits;
    auto ring = [=](int x) { return columns + (size_t)(x & mask) * pad; };
    auto column = [=](int x, int c) {
        const size_t at = (size_t)x * C + c;
        const int n = C - c;
        V s = n < V::lanes ? V::load_part(all[0] + at, n) : V::load(all[0] + at);
        for (int i = 1; i < nrows; i++)
            s = add(s, n < V::lanes ? V::load_part(all[i] + at, n) : V::load(all[i] + at));
        s.store(ring(x) + c);
    };
    auto anywhere = [=](int x) {
        const float* p = center + (size_t)x * C;
        const int x0 = x < half ? 0 : x - half, x1 = x + half < W ? x + half : W - 1;
        const V n = V::set1((float)(nrows * (x1 - x0 + 1)));
        for (int c = 0; c < C; c += V::lanes) {
            if (x + half < W) column(x1, c);
            V s = V::load(ring(x0) + c);
            for (int j = x0 + 1; j <= x1; j++) s = add(s, V::load(ring(j) + c));
            const int left = C - c;
            const unsigned bit =
                left < V::lanes
                    ? local_bit(shifted<V, true, AFFINE>(p, a, c, left), scaled<V, true, AFFINE>(s, a, c, left), n)
                    : local_bit(shifted<V, false, AFFINE>(p, a, c, 0), scaled<V, false, AFFINE>(s, a, c, 0), n);
            put_mask<V>(bits + x * stride + c / 8, bit & tail_bits<V>(left));
        }
    };
    for (int x = 0; x < half && x < W; x++)
        for (int c = 0; c < C; c += V::lanes) column(x, c);
    int x = 0;
    if (K) {
        constexpr int k = K ? K : 1;
        const float* rows[k];
        for (int i = 0; i < k; i++) rows[i] = all[i];
        for (; x < half && x < W; x++) anywhere(x);
        for (; x + half < W; x++) {
            float* cols[k];
            for (int j = 0; j < k; j++) cols[j] = ring(x - half + j);
            const size_t at = (size_t)(x + half) * C;
            const float* p = center + (size_t)x * C;
            uint8_t* o = bits + x * stride;
            int c = 0;
            for (; c < full; c += V::lanes)
                put_mask<V>(o + c / 8, interior_bit<V, k, false, AFFINE>(rows, at + c, cols, c, p, a, 0));
            if (c < C)
                put_mask<V>(o + c / 8, interior_bit<V, k, true, AFFINE>(rows, at + c, cols, c, p, a, C - c) &
                                           tail_bits<V>(C - c));
        }
    }
    for (; x < W; x++) anywhere(x);
}

template <class V, bool AFFINE>
void binarize_by_mean(const BinarizeRow& r) {
    if (r.threshold == TH_GLOBAL) return binarize_pointwise<V, TH_GLOBAL, AFFINE>(r);
    if (r.nrows == r.window) switch (r.window) {
            case 3: return binarize_local<V, 3, AFFINE>(r);
            case 5: return binarize_local<V, 5, AFFINE>(r);
            case 7: return binarize_local<V, 7, AFFINE>(r);
            case 9: return binarize_local<V, 9, AFFINE>(r);
        }
    binarize_local<V, 0, AFFINE>(r);
}

template <class V>
void binarize_row(const BinarizeRow& r) {
    switch (r.threshold) {
        case TH_NONE: return binarize_pointwise<V, TH_NONE, false>(r);
        case TH_CHANNEL: return binarize_pointwise<V, TH_CHANNEL, false>(r);
    }
    if (r.shift) return binarize_by_mean<V, true>(r);
    binarize_by_mean<V, false>(r);
}
