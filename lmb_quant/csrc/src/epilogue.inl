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
        if (ACT == ACT_HARDTANH) return select_gt(v, gamma, gamma, select_gt(zeta, v, zeta, v));
        if (ACT == ACT_PRELU) return select_gt(v, V::zero(), v, mul(v, slope));
        if (ACT == ACT_RPRELU) {
            V d = sub(v, gamma);
            return add(select_gt(v, gamma, d, mul(slope, d)), zeta);
        }
        return v;
    }
    V scaled(V count, V corr, const float* factor) const {
        const V v = mul(sub_twice(corr, count), scale);
        return add(factor ? mul(v, V::set1(*factor)) : v, bias);
    }
    template <int SKIP>
    V finished(V v, V skip) const {
        if (SKIP == SKIP_BEFORE_ACT) return activate(add(v, skip));
        return SKIP == SKIP_AFTER_ACT ? add(activate(v), skip) : activate(v);
    }
    // n: channels that exist, counted from this vector's first
    template <int SKIP>
    void write(V v, const float* skip, float* out, int n) const {
        if (n >= V::lanes) finished<SKIP>(v, SKIP ? V::load(skip) : v).store(out);
        else if (n > 0) finished<SKIP>(v, SKIP ? V::load_part(skip, n) : v).store_part(out, n);
    }
};

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

#define LMBQ_DISPATCH_SKIP(FN, ACT, plan, row)                          \
    switch ((row).skip ? (plan).skip : SKIP_NONE) {                     \
        case SKIP_NONE: return FN<ACT, SKIP_NONE>(plan, row);           \
        case SKIP_AFTER_ACT: return FN<ACT, SKIP_AFTER_ACT>(plan, row); \
        default: return FN<ACT, SKIP_BEFORE_ACT>(plan, row);            \
    }

#define LMBQ_DISPATCH_ROW(FN, plan, row)                           \
    switch ((plan).act) {                                          \
        case ACT_NONE: LMBQ_DISPATCH_SKIP(FN, ACT_NONE, plan, row) \
        case ACT_RELU: LMBQ_DISPATCH_SKIP(FN, ACT_RELU, plan, row) \
        case ACT_HARDTANH: LMBQ_DISPATCH_SKIP(FN, ACT_HARDTANH, plan, row) \
        case ACT_PRELU: LMBQ_DISPATCH_SKIP(FN, ACT_PRELU, plan, row) \
        default: LMBQ_DISPATCH_SKIP(FN, ACT_RPRELU, plan, row)     \
    }
