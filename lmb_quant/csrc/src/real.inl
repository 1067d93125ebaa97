// SPDX-License-Identifier: Apache-2.0
// Real convolutions of one row, dense and depthwise, and what stands alone beside them. A value's additions have one
// order, wherever in the row it is: from zero by row, column and channel, then the bias. It is oneDNN's, so that the bits
// that follow are those of the network run module by module. Included inside an anonymous namespace after epilogue.inl. The
// float vector V fulfils what is asked there, and:
//
//   multiply_add(a, b, c)   a b + c, rounded once or twice
//   held(a)                 a, in a register: the compiler does not read it from memory anew for each use

// Vectors of a group's outputs, and floats of one such vector's weights.
template <class V>
LMBQ_INLINE int group_vectors(const RealPlan& p) {
    return (p.out_channels / p.groups + V::lanes - 1) / V::lanes;
}
template <class V>
LMBQ_INLINE size_t vector_weights(const RealPlan& p) {
    return (size_t)p.kernel * p.kernel * (p.in_channels / p.groups) * V::lanes;
}

// Dense weights: group by group, blocks of up to NV vectors of outputs, in each [ky][kx][input][vector][lane].
// Depthwise: [tap][out_pad].
template <class V, int NV>
size_t real_weight_floats(const RealPlan& p) {
    if (p.depthwise) return (size_t)p.kernel * p.kernel * p.out_pad;
    return p.groups * group_vectors<V>(p) * vector_weights<V>(p);
}

template <class V, int NV>
void real_pack_weights(const RealPlan& p, const float* oihw, float* out) {
    const int taps = p.kernel * p.kernel;
    if (p.depthwise) {
        for (int t = 0; t < taps; t++)
            for (int o = 0; o < p.out_pad; o++) *out++ = o < p.out_channels ? oihw[(size_t)o * taps + t] : 0.0f;
        return;
    }
    const int I = p.in_channels / p.groups, O = p.out_channels / p.groups, vectors = group_vectors<V>(p);
    for (int g = 0; g < p.groups; g++, oihw += (size_t)O * I * taps)
        for (int v0 = 0; v0 < vectors; v0 += NV) {
            const int until = (v0 + NV < vectors ? v0 + NV : vectors) * V::lanes;
            for (int t = 0; t < taps; t++)
                for (int i = 0; i < I; i++)
                    for (int o = v0 * V::lanes; o < until; o++) *out++ = o < O ? oihw[((size_t)o * I + i) * taps + t] : 0.0f;
        }
}

// The values of `pixels` pixels and `vectors` vectors of outputs from o on, of which those below `until` exist.
struct RealTile {
    const float* sums;  // [pixel][vector][lane]
    int pixels, vectors, o, until;
    size_t x;
};

template <class V, int ACT, bool SKIP>
LMBQ_INLINE void real_write(const RealPlan& p, const RealRow& r, const RealTile& t) {
    constexpr int kSkip = SKIP ? SKIP_AFTER_ACT : SKIP_NONE;
    for (int v = 0; v < t.vectors; v++) {
        const int first = t.o + v * V::lanes, left = t.until - first;
        const Params<V, ACT> par(p.channels, first);
        for (int i = 0; i < t.pixels; i++) {
            const size_t at = (t.x + i) * p.out_channels + first;
            const V sum = V::load(t.sums + (i * t.vectors + v) * V::lanes);
            par.template write<kSkip>(add(sum, par.bias), SKIP ? r.skip + at : nullptr, r.out + at, left);
        }
    }
}

template <class V>
void real_finish(const RealPlan& p, const RealRow& r, const RealTile& t) {
    switch (p.act) {
#define LMBQ_CASE(NAME, NEEDS)                                                \
    case LMBQ_ACT_##NAME:                                                     \
        if (r.skip) return real_write<V, LMBQ_ACT_##NAME, true>(p, r, t); \
        return real_write<V, LMBQ_ACT_##NAME, false>(p, r, t);
        LMBQ_ACTS(LMBQ_CASE)
#undef LMBQ_CASE
    }
}

template <class V, int ACT, bool SKIP, int PX, int NV>
LMBQ_INLINE void real_store(const RealPlan& p, const RealRow& r, const V (&acc)[PX][NV], size_t x, int o) {
    constexpr int kSkip = SKIP ? SKIP_AFTER_ACT : SKIP_NONE;
    const size_t O = p.out_channels, at = x * O + o;
    const float* const skips = SKIP ? r.skip + at : nullptr;
    float* const outs = r.out + at;
    const OutputChannels channels = p.channels;
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++) {
        const Params<V, ACT> par(channels, o + v * V::lanes);
        const float* skip = SKIP ? skips + v * V::lanes : nullptr;
        float* out = outs + v * V::lanes;
#pragma GCC unroll 8
        for (int i = 0; i < PX; i++, out += O) {
            const V sum = add(acc[i][v], par.bias);
            par.template finished<kSkip>(sum, SKIP ? V::load(skip) : sum).store(out);
            if (SKIP) skip += O;
        }
    }
}

// Whole vectors from registers.
template <class V, int ACT, int PX, int NV>
LMBQ_INLINE void real_keep(const RealPlan& p, const RealRow& r, const V (&acc)[PX][NV], size_t x, int o) {
    if (r.skip) return real_store<V, ACT, true, PX, NV>(p, r, acc, x, o);
    real_store<V, ACT, false, PX, NV>(p, r, acc, x, o);
}

// Outputs from o on, of which those below `until` exist, by a way through memory: any function, in little code.
template <class V, int PX, int NV>
LMBQ_INLINE void real_keep_slowly(const RealPlan& p, const RealRow& r, const V (&acc)[PX][NV], size_t x, int o, int until) {
    alignas(64) float sums[PX * NV * V::lanes];
#pragma GCC unroll 8
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) acc[i][v].store(sums + (i * NV + v) * V::lanes);
    real_finish<V>(p, r, {sums, PX, NV, o, until, x});
}

template <class V, int PX, int NV>
LMBQ_INLINE void real_keep_any(const RealPlan& p, const RealRow& r, const V (&acc)[PX][NV], size_t x, int o, int until) {
    if (o + NV * V::lanes <= until) switch (p.act) {
            case LMBQ_ACT_NONE: return real_keep<V, LMBQ_ACT_NONE, PX, NV>(p, r, acc, x, o);
            case LMBQ_ACT_RELU: return real_keep<V, LMBQ_ACT_RELU, PX, NV>(p, r, acc, x, o);
            case LMBQ_ACT_PRELU: return real_keep<V, LMBQ_ACT_PRELU, PX, NV>(p, r, acc, x, o);
        }
    real_keep_slowly<V, PX, NV>(p, r, acc, x, o, until);
}

// A block of a group's outputs.
struct RealBlock {
    int input, output, until;  // first input of the group, first output of the block, end of the group's outputs
    const float* weights;
};

// PX pixels and NV vectors of outputs: the sums stay in registers.
template <class V, int PX, int NV>
void real_tile(const RealPlan& p, const RealRow& r, const RealBlock& b, size_t x) {
    const size_t C = p.in_channels, n = p.groups == 1 ? C * p.kernel : C / p.groups;
    const int o = b.output, runs = p.groups == 1 ? 1 : p.kernel;
    const float* w = b.weights;
    V acc[PX][NV];
#pragma GCC unroll 8
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) acc[i][v] = V::zero();
    for (int run = 0; run < p.kernel * runs; run++) {
        const float* a = r.rows[run / runs] + (x + (size_t)(run % runs)) * C + b.input;
        for (size_t j = 0; j < n; j++, a++, w += NV * V::lanes) {
            V wv[NV];
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) wv[v] = V::load(w + v * V::lanes);
#pragma GCC unroll 8
            for (int i = 0; i < PX; i++) {
                const V value = V::set1(a[i * C]);
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) acc[i][v] = multiply_add(value, wv[v], acc[i][v]);
            }
        }
    }
    real_keep_any<V, PX, NV>(p, r, acc, x, o, b.until);
}

template <class V, int PX, int NV>
void real_block(const RealPlan& p, const RealRow& r, const RealBlock& b) {
    const size_t width = r.width;
    size_t x = 0;
    for (; x + PX <= width; x += PX) real_tile<V, PX, NV>(p, r, b, x);
    if (x == width) return;
    if (width >= PX) return real_tile<V, PX, NV>(p, r, b, width - PX);  // some pixels once more, to equal values
    for (; x < width; x++) real_tile<V, 1, NV>(p, r, b, x);
}

// A block that may have fewer than NV vectors.
template <class V, int PX, int NV>
void real_any_block(const RealPlan& p, const RealRow& r, const RealBlock& b, int vectors) {
    if (vectors >= NV) return real_block<V, PX, NV>(p, r, b);
    if constexpr (NV > 1) real_any_block<V, PX, NV - 1>(p, r, b, vectors);
}

template <class V, int PX, int NV>
void real_dense_row(const RealPlan& p, const RealRow& r) {
    const int vectors = group_vectors<V>(p), I = p.in_channels / p.groups, O = p.out_channels / p.groups;
    const float* w = p.weights;
    for (int g = 0; g < p.groups; g++)
        for (int v = 0; v < vectors; v += NV) {
            const int here = vectors - v < NV ? vectors - v : NV;
            real_any_block<V, PX, NV>(p, r, {g * I, g * O + v * V::lanes, (g + 1) * O, w}, here);
            w += here * vector_weights<V>(p);
        }
}

// PX pixels of NV vectors of channels; K > 0: a kernel known at compile time. A value that is read serves all the pixels
// that need it.
template <class V, int PX, int NV, int K, bool PART>
LMBQ_INLINE void depthwise_tile(const RealPlan& p, const RealRow& r, size_t x, int c) {
    const size_t C = p.in_channels;
    const int left = p.in_channels - c;
    auto read = [=](const float* a) __attribute__((always_inline)) { return PART ? V::load_part(a, left) : V::load(a); };
    V acc[PX][NV];
#pragma GCC unroll 8
    for (int i = 0; i < PX; i++)
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) acc[i][v] = V::zero();
    const float* w = p.weights + c;
    const int k = K ? K : p.kernel;
#pragma GCC unroll 3
    for (int ky = 0; ky < k; ky++) {
        const float* a = r.rows[ky] + x * C + c;
        if constexpr (K > 0) {
            V weights[K][NV];
#pragma GCC unroll 3
            for (int kx = 0; kx < K; kx++, w += p.out_pad)
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++) weights[kx][v] = V::load(w + v * V::lanes);
#pragma GCC unroll 10
            for (int j = 0; j < PX + K - 1; j++, a += C)
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++) {
                    const V value = held(read(a + v * V::lanes));
#pragma GCC unroll 3
                    for (int kx = 0; kx < K; kx++)
                        if (j - kx >= 0 && j - kx < PX)
                            acc[j - kx][v] = multiply_add(weights[kx][v], value, acc[j - kx][v]);
                }
        } else {
            static_assert(NV == 1);
            for (int kx = 0; kx < k; kx++, w += p.out_pad, a += C) {
                const V weight = V::load(w);
#pragma GCC unroll 8
                for (int i = 0; i < PX; i++) acc[i][0] = multiply_add(weight, read(a + i * C), acc[i][0]);
            }
        }
    }
    if constexpr (PART || PX == 1 || K == 0) real_keep_slowly<V, PX, NV>(p, r, acc, x, c, p.out_channels);
    else real_keep_any<V, PX, NV>(p, r, acc, x, c, p.out_channels);
}

template <int PX>
struct Pixels {
    static constexpr int value = PX;
};

// Tile by tile, all of a tile's channels one after another: rows are read in order.
template <class V, int K>
void depthwise_row(const RealPlan& p, const RealRow& r) {
    constexpr size_t kAtOnce = 6;
    const size_t width = r.width;
    auto tiles = [&](auto pixels, size_t x) {
        constexpr int PX = decltype(pixels)::value;
        constexpr int NV = V::lanes == 16 && PX > 1 && K > 0 ? 2 : 1;  // AVX-512 has the registers
        int c = 0;
        for (; c + NV * V::lanes <= p.in_channels; c += NV * V::lanes) depthwise_tile<V, PX, NV, K, false>(p, r, x, c);
        for (; c + V::lanes <= p.in_channels; c += V::lanes) depthwise_tile<V, PX, 1, K, false>(p, r, x, c);
        if (c < p.in_channels) depthwise_tile<V, PX, 1, K, true>(p, r, x, c);
    };
    size_t x = 0;
    for (; x + kAtOnce <= width; x += kAtOnce) tiles(Pixels<kAtOnce>(), x);
    if (x == width) return;
    if (width >= kAtOnce) return tiles(Pixels<kAtOnce>(), width - kAtOnce);  // some once more, to equal values
    for (; x < width; x++) tiles(Pixels<1>(), x);
}

template <class V, int PX, int NV>
void real_row(const RealPlan& p, const RealRow& r) {
    if (!p.depthwise) return real_dense_row<V, PX, NV>(p, r);
    if (p.kernel == 3) return depthwise_row<V, 3>(p, r);
    depthwise_row<V, 0>(p, r);
}

template <class V, int ACT>
void act_row_of(const ActRow& r) {
    const size_t C = r.channels;
    for (int c = 0; c < r.channels; c += V::lanes) {
        const Params<V, ACT> par(r.parameters, c);
        const int left = r.channels - c;
        for (size_t x = 0; x < (size_t)r.width; x++) {
            const float* from = r.x + x * C + c;
            const V v = left < V::lanes ? V::load_part(from, left) : V::load(from);
            par.template write<SKIP_NONE>(v, nullptr, r.out + x * C + c, left);
        }
    }
}

template <class V>
void act_row(const ActRow& r) {
    switch (r.act) {
#define LMBQ_CASE(NAME, NEEDS) \
    case LMBQ_ACT_##NAME: return act_row_of<V, LMBQ_ACT_##NAME>(r);
        LMBQ_ACTS(LMBQ_CASE)
#undef LMBQ_CASE
    }
}

template <class V>
void add_row(const float* a, const float* x, float alpha, float* out, size_t n) {
    const V factor = V::set1(alpha);
    size_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) add(V::load(a + i), mul(factor, V::load(x + i))).store(out + i);
    for (; i < n; i++) out[i] = a[i] + alpha * x[i];
}

template <class V>
void affine_row(const float* x, float offset, float gain, float* out, size_t n) {
    const V more = V::set1(offset), factor = V::set1(gain);
    size_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) mul(add(V::load(x + i), more), factor).store(out + i);
    for (; i < n; i++) out[i] = (x[i] + offset) * gain;
}

template <class V>
void copy_row(const float* x, float* out, size_t n) {
    size_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) V::load(x + i).store(out + i);
    for (; i < n; i++) out[i] = x[i];
}

// 0 times a number that is not finite is NaN, and stays in the sum.
template <class V>
int finite_row(const float* x, size_t n) {
    V sum = V::zero();
    size_t i = 0;
    for (; i + V::lanes <= n; i += V::lanes) sum = add(sum, mul(V::load(x + i), V::zero()));
    if (i < n) sum = add(sum, mul(V::load_part(x + i, (int)(n - i)), V::zero()));
    float lanes[V::lanes];
    sum.store(lanes);
    bool finite = true;
    for (float lane : lanes) finite &= lane == 0;
    return finite;
}
