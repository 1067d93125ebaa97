// SPDX-License-Identifier: Apache-2.0
// Count of differing bits -> output, for a float vector V. Each step rounds on its own, as the PyTorch form does;
// corr - 2 * count is exact. Included inside an anonymous namespace.

// The parameters of V::lanes output channels, read once: vector stores may alias anything, so the compiler would read
// them again after every store.
template <class V, int ACT>
struct Params {
    V scale, bias, slope, gamma, zeta;
    Params(const ConvPlan& p, int o)
        : scale(V::load(p.scale + o)), bias(V::load(p.bias + o)), slope(V::load(p.slope + o)),
          gamma(V::load(p.gamma + o)), zeta(V::load(p.zeta + o)) {}

    V activate(V v) const {
        if (ACT == ACT_RELU) return select_gt(V::zero(), v, V::zero(), v);
        if (ACT == ACT_PRELU) return select_gt(v, V::zero(), v, mul(v, slope));
        if (ACT == ACT_RPRELU) {
            V d = sub(v, gamma);
            return add(select_gt(v, gamma, d, mul(slope, d)), zeta);
        }
        return v;
    }
    V apply(V count, V corr) const { return activate(add(mul(sub_twice(corr, count), scale), bias)); }
};

// n: channels that exist, counted from this vector's first
template <class V, bool SKIP>
inline void write(V v, const float* skip, float* out, int n) {
    if (n >= V::lanes) {
        if (SKIP) v = add(v, V::load(skip));
        v.store(out);
    } else if (n > 0) {
        if (SKIP) v = add(v, V::load_part(skip, n));
        v.store_part(out, n);
    }
}

// Fetches the row that will be wanted soon, a piece with every `pixels` outputs. Lines, not bytes, so that no division is
// made on the way: one a row.
struct Prefetch {
    const char *at, *end;
    ptrdiff_t piece;
    Prefetch(const ConvRow& r, int pixels)
        : at(r.prefetch), end(at ? at + r.prefetch_bytes : at),
          piece(((end - at) / (r.width > pixels ? r.width / pixels : 1) + 63) / 64 * 64) {}
    void next() {
        for (const char* to = end - at > piece ? at + piece : end; at < to; at += 64) __builtin_prefetch(at, 0, 2);
    }
};

#define LMBQ_DISPATCH_ROW(FN, plan, row)                                                                           \
    switch ((plan).act * 2 + ((row).skip != nullptr)) {                                                            \
        case 0: return FN<ACT_NONE, false>(plan, row);                                                             \
        case 1: return FN<ACT_NONE, true>(plan, row);                                                              \
        case 2: return FN<ACT_RELU, false>(plan, row);                                                             \
        case 3: return FN<ACT_RELU, true>(plan, row);                                                              \
        case 4: return FN<ACT_PRELU, false>(plan, row);                                                            \
        case 5: return FN<ACT_PRELU, true>(plan, row);                                                             \
        case 6: return FN<ACT_RPRELU, false>(plan, row);                                                           \
        default: return FN<ACT_RPRELU, true>(plan, row);                                                           \
    }
