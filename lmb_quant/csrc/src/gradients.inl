// SPDX-License-Identifier: Apache-2.0
// The backward pass of a binary unit. Included inside an anonymous namespace, after epilogue.inl. The float vector V
// fulfils the contract there, less sub_twice, and has abs(a); Quad holds four floats and has load, store, add and
// transpose(q), which turns four of them.
//
// Gradient convolutions have one operand of -1 and +1. So of every four values of the other one, all sixteen sums with
// signs are put into a table, and each four bits choose one of them: a load and an addition do 4 multiplications of every
// lane. Both kernels keep everything in float32.

constexpr int kNibble = 4, kSums = 16;

struct Whole {
    static constexpr bool is_part = false;
};
struct Part {
    static constexpr bool is_part = true;
};

// The sixteen sums of g[0..3] with signs; bit j of the index is the sign of g[j]. Entries are `step` floats apart.
template <class V>
LMBQ_INLINE void sign_sums(const V (&g)[kNibble], float* table, size_t step) {
    const V n0 = sub(V::zero(), g[0]), n2 = sub(V::zero(), g[2]);
    const V low[4] = {sub(n0, g[1]), sub(g[0], g[1]), sub(g[1], g[0]), add(g[0], g[1])};
    const V high[4] = {sub(n2, g[3]), sub(g[2], g[3]), sub(g[3], g[2]), add(g[2], g[3])};
    for (int h = 0; h < 4; h++)
        for (int l = 0; l < 4; l++) add(low[l], high[h]).store(table + (size_t)(h * 4 + l) * step);
}

// ---- Activation function, factor, scale -------------------------------------------------------------------------------

// gy -> gradient of the unit's linear output, and the parameters' sums of this row.
template <class V, int ACT>
LMBQ_INLINE V act_grad(const UnitGradRow& r, V v, V gy, int o) {
    float* const sums = r.sums + o;
    const size_t pad = (size_t)r.plan->out_pad;
    auto accumulate = [&](int which, V value) {
        float* const at = sums + (size_t)which * pad;
        add(V::load(at), value).store(at);
    };
    if (ACT == LMBQ_ACT_RELU) return select_gt(v, V::zero(), gy, V::zero());
    if (ACT == LMBQ_ACT_HARDTANH) {
        const V inside = select_gt(V::set1(1.0f), v, gy, V::zero());
        return select_gt(v, V::set1(-1.0f), inside, V::zero());
    }
    if (ACT == LMBQ_ACT_SILU) {
        const V one = V::set1(1.0f), s = div(one, add(exp_limited(sub(V::zero(), v)), one));
        return mul(gy, mul(s, add(one, mul(v, sub(one, s)))));
    }
    if (ACT == LMBQ_ACT_PRELU) {
        accumulate(GRAD_SLOPE, select_gt(v, V::zero(), V::zero(), mul(v, gy)));
        return select_gt(v, V::zero(), gy, mul(V::load(r.plan->channels.slope + o), gy));
    }
    if (ACT == LMBQ_ACT_RPRELU) {
        const V d = sub(v, V::load(r.plan->channels.gamma + o));
        accumulate(GRAD_SLOPE, select_gt(d, V::zero(), V::zero(), mul(d, gy)));
        accumulate(GRAD_ZETA, gy);
        const V g = select_gt(d, V::zero(), gy, mul(V::load(r.plan->channels.slope + o), gy));
        accumulate(GRAD_GAMMA, sub(V::zero(), g));
        return g;
    }
    return gy;
}

template <class V, int ACT>
void unit_grad(const UnitGradRow& r) {
    const int O = r.plan->out_channels;
    const size_t pad = (size_t)r.plan->out_pad;
    for (int x = 0; x < r.width; x++) {
        const size_t at = (size_t)x * O;
        const V f = V::set1(r.factor ? r.factor[x] : 1.0f);
        V towards_factor = V::zero();
        auto step = [&](int o, auto part) {
            constexpr bool PART = decltype(part)::is_part;
            const int n = O - o;
            auto read = [&](const float* p) { return PART ? V::load_part(p + at + o, n) : V::load(p + at + o); };
            auto write = [&](V v, float* p) { PART ? v.store_part(p + at + o, n) : v.store(p + at + o); };
            const V sums = read(r.conv), alpha = V::load(r.plan->channels.scale + o);
            V v = add(r.factor ? mul(sums, f) : sums, V::load(r.plan->channels.bias + o));
            if (r.skip) v = add(v, read(r.skip));
            const V g = act_grad<V, ACT>(r, v, read(r.grad_out), o);
            float* const bias = r.sums + (size_t)GRAD_BIAS * pad + o;
            add(V::load(bias), g).store(bias);
            if (r.grad_skip) write(g, r.grad_skip);
            towards_factor = add(towards_factor, mul(g, sums));
            write(mul(r.factor ? mul(g, f) : g, alpha), r.grad_conv);
        };
        int o = 0;
        for (; o + V::lanes <= O; o += V::lanes) step(o, Whole{});
        if (o < O) step(o, Part{});
        if (r.grad_factor) {
            float lanes[V::lanes], total = 0;
            towards_factor.store(lanes);
            for (float lane : lanes) total += lane;
            r.grad_factor[x] = total;
        }
    }
}

template <class V>
void unit_grad_row(const UnitGradRow& r) {
    switch (r.plan->act) {
#define LMBQ_CASE(NAME, NEEDS) \
    case LMBQ_ACT_##NAME: return unit_grad<V, LMBQ_ACT_##NAME>(r);
        LMBQ_ACTS(LMBQ_CASE)
#undef LMBQ_CASE
    }
}

// ---- Threshold --------------------------------------------------------------------------------------------------------

template <class V>
void sum_of_rows(const float* const* rows, int nrows, size_t count, float* out) {
    size_t i = 0;
    for (; i + V::lanes <= count; i += V::lanes) {
        V s = V::load(rows[0] + i);
        for (int k = 1; k < nrows; k++) s = add(s, V::load(rows[k] + i));
        s.store(out + i);
    }
    for (; i < count; i++) {
        float s = rows[0][i];
        for (int k = 1; k < nrows; k++) s += rows[k][i];
        out[i] = s;
    }
}

template <class V, int SURROGATE>
LMBQ_INLINE V derivative(V u, const float* given, int n) {
    if (SURROGATE == SURROGATE_GIVEN) return n < V::lanes ? V::load_part(given, n) : V::load(given);
    if (SURROGATE == SURROGATE_IDENTITY) return V::set1(1.0f);
    // the next float above 1, so that the comparison is that of |u| <= 1, false for NaN
    if (SURROGATE == SURROGATE_STE) return select_gt(V::set1(1.00000011920929f), abs(u), V::set1(1.0f), V::zero());
    const float height = SURROGATE == SURROGATE_TRIANGLE_HALF ? 4.0f : 2.0f;
    const float slope = SURROGATE == SURROGATE_TRIANGLE_HALF ? 8.0f : 2.0f;
    const V g = sub(V::set1(height), mul(V::set1(slope), abs(u)));
    return select_gt(V::zero(), g, V::zero(), g);  // NaN stays
}

// Gradients of the bits times the surrogate's derivative, what of it goes through the mean, and the parameters' sums.
template <class V, int SURROGATE>
void threshold_grad(const ThresholdGradRow& r) {
    const int C = r.channels, half = r.window / 2;
    const bool mean = r.columns != nullptr || r.means != nullptr;
    const size_t pad = (size_t)(C + 15) / 16 * 16;
    float* const shift_sums = r.sums;
    float* const gain_sums = r.sums + pad;
    for (int x = 0; x < r.width; x++) {
        const size_t at = (size_t)x * C;
        const int left = x < half ? x : half, right = r.width - 1 - x < half ? r.width - 1 - x : half;
        const float count = r.columns ? (float)(r.nrows * (left + right + 1)) : 1.0f;
        const V n = V::set1(count), inverse = V::set1(1.0f / count);
        for (int c = 0; c < C; c += V::lanes) {
            const int rest = C - c;
            auto read = [&](const float* p) { return rest < V::lanes ? V::load_part(p, rest) : V::load(p); };
            V u = read(r.x + at + c), total = V::zero();
            if (r.shift) u = sub(u, read(r.shift + c));
            if (r.columns) {
                const float* p = r.columns + at + c;  // padded by `half` pixels of zeros on either side
                total = read(p);
                for (int k = 1; k < r.window; k++) total = add(total, read(p + (size_t)k * C));
            } else if (r.means) total = read(r.means + c);
            if (mean) {
                const V scaled = r.gain ? mul(total, read(r.gain + c)) : total;
                u = sub(u, r.columns ? div(scaled, n) : scaled);
            }
            const V g = mul(read(r.grad_bits + at + c), derivative<V, SURROGATE>(u, r.given + at + c, rest));
            auto put = [&](V v, float* p) { rest < V::lanes ? v.store_part(p, rest) : v.store(p); };
            put(g, r.through_value + at + c);
            if (r.through_mean) {
                V m = r.gain ? mul(g, read(r.gain + c)) : g;
                if (r.columns) m = div(m, n);
                put(m, r.through_mean + at + c);
            }
            if (r.shift) add(V::load(shift_sums + c), g).store(shift_sums + c);
            if (r.gain) {
                const V m = r.columns ? mul(total, inverse) : total;
                add(V::load(gain_sums + c), mul(g, m)).store(gain_sums + c);
            }
        }
    }
}

template <class V>
void threshold_grad_row(const ThresholdGradRow& r) {
    switch (r.surrogate) {
        case SURROGATE_STE: return threshold_grad<V, SURROGATE_STE>(r);
        case SURROGATE_IDENTITY: return threshold_grad<V, SURROGATE_IDENTITY>(r);
        case SURROGATE_APPROX_SIGN: return threshold_grad<V, SURROGATE_APPROX_SIGN>(r);
        case SURROGATE_TRIANGLE_HALF: return threshold_grad<V, SURROGATE_TRIANGLE_HALF>(r);
        default: return threshold_grad<V, SURROGATE_GIVEN>(r);
    }
}

// The transposed mean taken off, the skip's and the factor's gradients added.
template <class V>
void input_grad_row(const InputGradRow& r) {
    const int C = r.channels;
    for (int x = 0; x < r.width; x++) {
        const size_t at = (size_t)x * C;
        for (int c = 0; c < C; c += V::lanes) {
            const int rest = C - c;
            auto read = [&](const float* p) { return rest < V::lanes ? V::load_part(p, rest) : V::load(p); };
            V g = read(r.through_value + at + c);
            if (r.columns) {
                const float* p = r.columns + at + c;
                V s = read(p);
                for (int k = 1; k < r.window; k++) s = add(s, read(p + (size_t)k * C));
                g = sub(g, s);
            }
            if (r.grad_skip) g = add(g, read(r.grad_skip + at + c));
            if (r.grad_factor) {
                const V z = V::set1(r.grad_factor[x]);
                g = add(g, mul(z, read(r.factor_weights + c)));
                add(V::load(r.factor_sums + c), mul(z, read(r.x + at + c))).store(r.factor_sums + c);
            }
            rest < V::lanes ? g.store_part(r.grad_x + at + c, rest) : g.store(r.grad_x + at + c);
        }
    }
}

// ---- Gradient of the bits: lanes are pixels, the weights' bits choose ---------------------------------------------------

// Four channels of up to kTile pixels, planes apart; pixels and channels that do not exist are 0.
LMBQ_INLINE void gather_planes(const float* p, int pixels, size_t step, int channels, float* planes) {
    int x = 0;
    if (channels == kNibble)
        for (; x + kNibble <= pixels; x += kNibble, p += kNibble * step) {
            Quad q[kNibble] = {Quad::load(p), Quad::load(p + step), Quad::load(p + 2 * step), Quad::load(p + 3 * step)};
            transpose(q);
            for (int j = 0; j < kNibble; j++) q[j].store(planes + j * kTile + x);
        }
    for (; x < kTile; x++, p += step)
        for (int j = 0; j < kNibble; j++) planes[j * kTile + x] = x < pixels && j < channels ? p[j] : 0.0f;
}

// Adds planes of channels, kPlane floats apart, to the pixels of a row.
LMBQ_INLINE void scatter_planes(const float* planes, int channels, int pixels, float* p) {
    const size_t step = (size_t)channels;
    int c = 0;
    for (; c + kNibble <= channels; c += kNibble) {
        const float* from = planes + (size_t)c * kPlane;
        float* to = p + c;
        int x = 0;
        for (; x + kNibble <= pixels; x += kNibble, to += kNibble * step) {
            Quad q[kNibble];
            for (int j = 0; j < kNibble; j++) q[j] = Quad::load(from + j * kPlane + x);
            transpose(q);
            for (int j = 0; j < kNibble; j++) add(Quad::load(to + j * step), q[j]).store(to + j * step);
        }
        for (; x < pixels; x++, to += step)
            for (int j = 0; j < kNibble; j++) to[j] += from[j * kPlane + x];
    }
    for (; c < channels; c++)
        for (int x = 0; x < pixels; x++) p[x * step + c] += planes[(size_t)c * kPlane + x];
}

// Tables of one row's stretch of kTile pixels: [group of four outputs][16][kTile].
template <class V>
void bits_grad_tables(const BitsGradTables& r) {
    alignas(64) float planes[kNibble * kTile];
    for (int o = 0; o < r.channels; o += kNibble) {
        gather_planes(r.grad_conv + o, r.pixels, (size_t)r.channels,
                      r.channels - o < kNibble ? r.channels - o : kNibble, planes);
        float* const table = r.tables + (size_t)(o / kNibble) * kSums * kTile;
        for (int x = 0; x < kTile; x += V::lanes) {
            const V g[kNibble] = {V::load(planes + x), V::load(planes + kTile + x), V::load(planes + 2 * kTile + x),
                                  V::load(planes + 3 * kTile + x)};
            sign_sums(g, table + x, kTile);
        }
    }
}

template <class V, int KW>
void bits_grad_stretch(const BitsGradRow& r) {
    constexpr int n = kTile / V::lanes;
    const int per_row = kBlockGroups * KW;
    for (int block = 0; block < r.blocks; block++) {
        const uint16_t* list = r.choices + (size_t)block * (size_t)(r.in_channels * r.kernel_h * per_row);
        for (int i = 0; i < r.in_channels; i++, list += r.kernel_h * per_row) {
            V acc[KW][n];
            for (int k = 0; k < KW; k++)
                for (int v = 0; v < n; v++) acc[k][v] = V::zero();
            for (int y = 0; y < r.kernel_h; y++) {
                if (!r.rows[y]) continue;
                const float* base = r.rows[y] + (size_t)block * kBlockGroups * kSums * kTile;
                const uint16_t* at = list + y * per_row;
#pragma GCC unroll 1
                for (int g = 0; g < kBlockGroups; g++)
#pragma GCC unroll 5
                    for (int k = 0; k < KW; k++) {
                        const float* p = base + at[g * KW + k];
#pragma GCC unroll 8
                        for (int v = 0; v < n; v++) acc[k][v] = add(acc[k][v], V::load(p + v * V::lanes));
                    }
            }
            float* const out = r.out + (size_t)i * kPlane;
            for (int k = 0; k < KW; k++)
                for (int v = 0; v < n; v++) {
                    float* const to = out + k + v * V::lanes;
                    add(V::load(to), acc[k][v]).store(to);
                }
        }
    }
}

template <class V>
void bits_grad_row(const BitsGradRow& r) {
    if (r.kernel_w == 1) return bits_grad_stretch<V, 1>(r);
    bits_grad_stretch<V, 3>(r);
}

// ---- Gradient of the weights' signs: lanes are outputs, the activations' bits choose ------------------------------------

template <class V>
struct WeightBlock {
    static constexpr int outputs = V::lanes == 16 ? 32 : 16;  // of one pass
    static constexpr int groups = V::lanes == 16 ? 8 : 16;  // of four pixels each, whose tables stay in L1
};

template <class V, int KW>
void weight_grad_block(const WeightGradTile& r, const float* tables, float* acc) {
    constexpr int OB = WeightBlock<V>::outputs, NG = WeightBlock<V>::groups, n = OB / V::lanes;
    for (int i = 0; i < r.in_channels; i++)
        for (int y = 0; y < r.kernel_h; y++, acc += KW * OB) {
            V s[KW][n];
            const uint8_t* at[KW];
            for (int k = 0; k < KW; k++) {
                at[k] = r.nibbles + (size_t)(i * KW + k) * r.plane + (size_t)y * r.row;
                for (int v = 0; v < n; v++) s[k][v] = V::load(acc + k * OB + v * V::lanes);
            }
            const float* table = tables;
#pragma GCC unroll 1
            for (int q = 0; q < NG; q++, table += kSums * OB)
#pragma GCC unroll 5
                for (int k = 0; k < KW; k++) {
                    const float* p = table + (size_t)at[k][q] * (OB / 16);
#pragma GCC unroll 8
                    for (int v = 0; v < n; v++) s[k][v] = add(s[k][v], V::load(p + v * V::lanes));
                }
            for (int k = 0; k < KW; k++)
                for (int v = 0; v < n; v++) s[k][v].store(acc + k * OB + v * V::lanes);
        }
}

template <class V>
void weight_grad_tile(const WeightGradTile& r) {
    constexpr int OB = WeightBlock<V>::outputs, NG = WeightBlock<V>::groups;
    const size_t taps = (size_t)r.kernel_h * r.kernel_w;
    for (int o = 0; o < r.out_channels; o += OB) {
        for (int q = 0; q < NG; q++) {
            float* const table = r.tables + (size_t)q * kSums * OB;
            for (int v = 0; v < OB; v += V::lanes) {
                const int rest = r.out_channels - o - v;
                V g[kNibble];
                for (int j = 0; j < kNibble; j++) {
                    const float* p = j < r.pixels[q] && rest > 0 ? r.groups[q] + (size_t)j * r.out_channels + o + v : nullptr;
                    g[j] = !p ? V::zero() : rest < V::lanes ? V::load_part(p, rest) : V::load(p);
                }
                sign_sums(g, table + v, OB);
            }
        }
        float* const acc = r.acc + (size_t)(o / OB) * (size_t)r.in_channels * taps * OB;
        if (r.kernel_w == 1) weight_grad_block<V, 1>(r, r.tables, acc);
        else weight_grad_block<V, 3>(r, r.tables, acc);
    }
}

template <class V>
constexpr GradientKernels gradient_kernels() {
    return {WeightBlock<V>::outputs, WeightBlock<V>::groups, unit_grad_row<V>, sum_of_rows<V>, threshold_grad_row<V>,
            input_grad_row<V>, bits_grad_tables<V>, bits_grad_row<V>, scatter_planes, weight_grad_tile<V>};
}
