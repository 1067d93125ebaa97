// SPDX-License-Identifier: Apache-2.0
// Count of differing bits -> output. Each step rounds on its own, as the PyTorch form does; corr - 2 * count is exact.
// Included inside an anonymous namespace. The float vector V fulfils:
//
//   V::lanes                                    how many floats it holds
//   V::zero(), V::set1(x)                       the same number in all lanes
//   V::load(p), v.store(p)                      lanes floats, at any address
//   V::load_part(p, n), v.store_part(p, n)      the first n < lanes only; the other lanes are read as 0, not written
//   add(a, b), sub(a, b), mul(a, b), div(a, b)  each rounds once
//   sub_twice(a, b)                             a - 2 b, b a whole number below 2^23
//   select_gt(a, b, yes, no)                    lane by lane a > b ? yes : no; a comparison with NaN is false
//   exp2_of_low_bits(t)                         2^n of t = kWhole + n, n whole, -126 to 128; 2^128 is infinity

constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: added, it rounds to a whole number, which the low bits then hold

template <class V>
LMBQ_INLINE V limited(V v, float low, float high) {  // NaN stays NaN
    const V least = V::set1(low), most = V::set1(high);
    return select_gt(v, most, most, select_gt(least, v, least, v));
}

// By 2^n exp(r), u = n log 2 + r; the polynomial is this project's own, its error 4e-9.
template <class V>
LMBQ_INLINE V exp_limited(V u) {
    u = limited(u, -87.0f, 89.0f);
    const V t = add(mul(u, V::set1(1.4426950216293335f)), V::set1(kWhole)), n = sub(t, V::set1(kWhole));
    const V r = sub(sub(u, mul(n, V::set1(0.693145751953125f))), mul(n, V::set1(1.428606765330187e-06f)));
    const float c[] = {0.0013814539415761828f, 0.00836874544620514f, 0.04166838899254799f, 0.1666652113199234f,
                       0.4999999403953552f};
    V q = V::set1(c[0]);
    for (int i = 1; i < 5; i++) q = add(mul(q, r), V::set1(c[i]));
    return mul(add(add(mul(q, mul(r, r)), r), V::set1(1.0f)), exp2_of_low_bits(t));
}

// The parameters of V::lanes output channels, read once: vector stores may alias anything, so the compiler would read
// them again after every store.
template <class V, int ACT>
struct Params {
    V scale, bias, slope, gamma, zeta;
    Params(const ConvPlan& p, int o) : Params(p.channels, o) {}
    Params(const OutputChannels& c, int o)
        : scale(V::load(c.scale + o)), bias(V::load(c.bias + o)), slope(V::load(c.slope + o)),
          gamma(V::load(c.gamma + o)), zeta(V::load(c.zeta + o)) {}

    V activate(V v) const {
        if (ACT == LMBQ_ACT_RELU) return select_gt(V::zero(), v, V::zero(), v);
        if (ACT == LMBQ_ACT_HARDTANH) return limited(v, -1.0f, 1.0f);
        if (ACT == LMBQ_ACT_SILU) return div(v, add(exp_limited(sub(V::zero(), v)), V::set1(1.0f)));
        if (ACT == LMBQ_ACT_PRELU) return select_gt(v, V::zero(), v, mul(v, slope));
        if (ACT == LMBQ_ACT_RPRELU) {
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

// Where a row's values go and what they meet on the way. Copies: a vector store may alias all that plan and row hold, so the
// compiler would read it again for every vector.
template <class V, int ACT, int SKIP>
class RowEnd {
public:
    struct Pixel {
        const float *corr, *factor;
        size_t at;  // of its first value
    };
    RowEnd(const ConvPlan& p, const ConvRow& r)
        : outputs_((size_t)p.out_channels), pad_((size_t)p.out_pad), corr_(r.corr), factor_(r.factor), skip_(r.skip),
          out_(r.out), cls_(r.cls) {}

    Pixel pixel(size_t x) const { return {corr_ + cls_[x] * pad_, factor_ ? factor_ + x : nullptr, x * outputs_}; }
    void write(const Params<V, ACT>& par, V count, const Pixel& px, int o) const {
        const size_t at = px.at + (size_t)o;
        const V v = par.scaled(count, V::load(px.corr + o), px.factor);
        par.template write<SKIP>(v, SKIP ? skip_ + at : nullptr, out_ + at, (int)outputs_ - o);
    }

private:
    size_t outputs_, pad_;
    const float *corr_, *factor_, *skip_;
    float* out_;
    const uint16_t* cls_;
};

// Fetches the row that will be wanted soon, a piece with each of `calls`: more at once would wait for memory. Lines, not
// bytes, so that no division is made on the way: one a row.
struct Prefetch {
    const char *at, *end;
    ptrdiff_t piece;
    Prefetch(const ConvRow& r, ptrdiff_t calls)
        : at(r.prefetch), end(at ? at + r.prefetch_bytes : at),
          piece(((end - at) / (calls > 1 ? calls : 1) + 63) / 64 * 64) {}
    void next() {
        for (const char* to = end - at > piece ? at + piece : end; at < to; at += 64) __builtin_prefetch(at, 0, 2);
    }
};

// Calls the row function for the plan's activation function and the row's skip.
template <int ACT, class Row>
void dispatch_skip(Row row, const ConvPlan& p, const ConvRow& r) {
    switch (r.skip ? p.skip : SKIP_NONE) {
        case SKIP_NONE: return row.template run<ACT, SKIP_NONE>(p, r);
        case SKIP_AFTER_ACT: return row.template run<ACT, SKIP_AFTER_ACT>(p, r);
        default: return row.template run<ACT, SKIP_BEFORE_ACT>(p, r);
    }
}

template <class Row>
void dispatch_row(const ConvPlan& p, const ConvRow& r) {
    switch (p.act) {
#define LMBQ_CASE(NAME, NEEDS) \
    case LMBQ_ACT_##NAME: return dispatch_skip<LMBQ_ACT_##NAME>(Row(), p, r);
        LMBQ_ACTS(LMBQ_CASE)
#undef LMBQ_CASE
    }
}
