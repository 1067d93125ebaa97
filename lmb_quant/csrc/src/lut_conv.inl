// SPDX-License-Identifier: Apache-2.0
// Binary convolution by byte shuffles, for machines without a vector popcount instruction (AVX2, NEON).
//
// Four input channels of one tap make a group. For two output pixels their activation nibbles (a, b) pick one of 256
// tables of 16 bytes, entry i = popcount(a ^ i) | popcount(b ^ i) << 4. The weights are the shuffle's indices, one
// byte an output channel, so one shuffle counts 4 bits for 2 pixels and B::lanes output channels. A nibble holds the
// sum of three lookups; `low` collects both nibbles modulo 256 and `high` the upper ones exactly, which gives both.
// Included inside an anonymous namespace, after epilogue.inl. V is the float vector of epilogue.inl; of B's width, it has
// also, for the 16-bit counts of B:
//
//   V::low_words(w), V::high_words(w)       the low and high halves of w's 32-bit lanes as floats
//
// The byte vector B fulfils:
//
//   B::lanes                                how many bytes it holds: 4 V::lanes
//   B::zero(), B::load(p)                   p is aligned to its size
//   B::table(p)                             16 bytes at p, aligned, in each 16 bytes of the vector
//   lookup(table, i)                        table[i], i below 16, within each 16 bytes
//   add(a, b), sub(a, b), add16(a, b)       modulo 256; add16 modulo 65536 in 16-bit lanes
//   add_high(a, s)                          a + (s >> 4), byte by byte
//   add_high_pair(a, s, t)                  a + (s >> 4) + (t >> 4)
//   times16(a)                              a << 4, modulo 256
//   even_bytes(a), odd_bytes(a)             of each 16 bits, the low and the high byte as 16 bits
//   expand16(a, b, o)                       16 nibbles each at a and b -> o[i] = 16 (a[i] | b[i] << 4), 16 values

struct PairTable {
    uint8_t t[256][16];
    constexpr PairTable() : t() {
        for (int p = 0; p < 256; p++)
            for (int i = 0; i < 16; i++) t[p][i] = (uint8_t)(bits((p & 15) ^ i) | bits((p >> 4) ^ i) << 4);
    }
    static constexpr int bits(int v) { return (v & 1) + (v >> 1 & 1) + (v >> 2 & 1) + (v >> 3 & 1); }
};
alignas(64) static constexpr PairTable kPairs;

constexpr int kMaxGroups = 60;  // 4 * 60 counts fit a byte

static int lut_unit(const ConvPlan& p) { return (p.in_channels + 3) / 4; }

static int lut_supports(const ConvPlan& p) {
    return p.groups == 1 && (int64_t)p.kh * p.kw * p.in_channels <= 65535;
}

static int lut_segments(const ConvPlan& p, Segment* out) {
    const int unit = lut_unit(p), run = p.dw == 1 ? unit * p.kw : unit, runs = p.dw == 1 ? 1 : p.kw;
    int n = 0;
    for (int ky = 0; ky < p.kh; ky++)
        for (int j = 0; j < runs; j++)
            for (int g = 0; g < run; g += kMaxGroups, n++)
                if (out) out[n] = {ky, j * p.dw * unit + g, run - g < kMaxGroups ? run - g : kMaxGroups};
    return n;
}

template <class B>
int lut_vectors(const ConvPlan& p) {
    return (p.out_channels + B::lanes - 1) / B::lanes;
}

template <class B>
size_t lut_weight_bytes(const ConvPlan& p) {
    return (size_t)lut_vectors<B>(p) * p.kh * p.kw * lut_unit(p) * B::lanes;
}

// Blocks of two vectors of outputs (the last may be one), in each: [tap][group][vector][lane].
// Lane 4j+q is output q * lanes/4 + j, so that widening by masks and shifts yields consecutive outputs.
template <class B>
void lut_pack_weights(const ConvPlan& p, const uint8_t* bits, void* out) {
    const int unit = lut_unit(p), taps = p.kh * p.kw, nv = lut_vectors<B>(p), bytes = (p.in_channels + 7) / 8;
    uint8_t* dst = (uint8_t*)out;
    for (int v0 = 0; v0 < nv; v0 += 2) {
        const int here = nv - v0 < 2 ? nv - v0 : 2;
        for (int t = 0; t < taps; t++)
            for (int g = 0; g < unit; g++)
                for (int v = 0; v < here; v++)
                    for (int lane = 0; lane < B::lanes; lane++) {
                        const int o = (v0 + v) * B::lanes + lane % 4 * (B::lanes / 4) + lane / 4;
                        const size_t at = ((size_t)o * taps + t) * bytes + g / 2;
                        *dst++ = o < p.out_channels ? (uint8_t)(bits[at] >> (g % 2 * 4) & 15) : 0;
                    }
    }
}

static int lut_columns(const ConvPlan& p, int out_width) {
    return columns_read(p, (out_width + 1) / 2 * 2);
}

static size_t lut_act_row_bytes(const ConvPlan& p, int out_width) {
    return ((size_t)lut_columns(p, out_width) * lut_unit(p) + 16) * sizeof(uint16_t);
}

// Column c holds, for each group, the table offset (16 * index) of the pixel pair (c, c + stride).
static void lut_expand_row(const ConvPlan& p, const uint8_t* bits, int bit_stride, int width, int left,
                           int out_width, void* act) {
    const int unit = lut_unit(p), columns = lut_columns(p, out_width), step = p.sw;
    uint16_t* row = (uint16_t*)act;
    static const uint8_t zeros[8] = {0};
    for (int c = 0; c < columns; c++) {
        const int xa = c - left, xb = xa + step;
        const uint8_t* a = xa >= 0 && xa < width ? bits + (size_t)xa * bit_stride : nullptr;
        const uint8_t* b = xb >= 0 && xb < width ? bits + (size_t)xb * bit_stride : nullptr;
        uint16_t* o = row + (size_t)c * unit;
        if (!a && !b) {
            memset(o, 0, (size_t)unit * sizeof(uint16_t));
            continue;
        }
        // whole 16s: what spills over is the next column, written next, and 16 spare entries after the last
        for (int g = 0; g < unit; g += 16) expand16(a ? a + g / 2 : zeros, b ? b + g / 2 : zeros, o + g);
    }
}

template <class B>
inline B pair_table(uint16_t offset) {
    return B::table((const uint8_t*)&kPairs + offset);
}

template <class B, int NV>
struct Counts {
    B low[NV], high[NV];
};

template <class B, int NV>
LMBQ_INLINE void count_segment(const uint16_t* a, const uint8_t* w, int n, Counts<B, NV>& acc) {
    constexpr int step = NV * B::lanes;
    for (; n >= 6; n -= 6, a += 6, w += 6 * step) {
        B s[NV], first[NV];
#pragma GCC unroll 6
        for (int g = 0; g < 6; g++) {
            const B t = pair_table<B>(a[g]);
#pragma GCC unroll 2
            for (int v = 0; v < NV; v++) {
                const B c = lookup(t, B::load(w + g * step + v * B::lanes));
                s[v] = g % 3 ? add(s[v], c) : c;
                if (g == 2) first[v] = s[v];
            }
        }
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) {
            acc.low[v] = add(add(acc.low[v], first[v]), s[v]);
            acc.high[v] = add_high_pair(acc.high[v], first[v], s[v]);
        }
    }
    while (n > 0) {
        B s[NV];
        for (int g = 0; g < 3 && n > 0; g++, n--, a++, w += step) {
            const B t = pair_table<B>(*a);
            for (int v = 0; v < NV; v++) {
                const B c = lookup(t, B::load(w + v * B::lanes));
                s[v] = g ? add(s[v], c) : c;
            }
        }
        for (int v = 0; v < NV; v++) {
            acc.low[v] = add(acc.low[v], s[v]);
            acc.high[v] = add_high(acc.high[v], s[v]);
        }
    }
}

constexpr int kChunk = 16;  // pixels counted before their values are finished

// 16-bit counts of two pixels, [pixel][vector][even bytes, odd bytes]
template <class B, int NV>
LMBQ_INLINE void count_pair(const void* const* act, const Segment* seg, int nseg, size_t at, const uint8_t* w, B* sum) {
    if (nseg == 0)
        for (int i = 0; i < 4 * NV; i++) sum[i] = B::zero();
    for (int s = 0; s < nseg; s++) {
        const Segment g = seg[s];
        Counts<B, NV> acc;
        for (int v = 0; v < NV; v++) acc.low[v] = acc.high[v] = B::zero();
        count_segment<B, NV>((const uint16_t*)act[g.row] + at + g.offset, w, g.count, acc);
        w += (size_t)g.count * NV * B::lanes;
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) {
            const B px[2] = {sub(acc.low[v], times16(acc.high[v])), acc.high[v]};
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                B* to = sum + (i * NV + v) * 2;
                const B even = even_bytes(px[i]), odd = odd_bytes(px[i]);
                to[0] = s ? add16(to[0], even) : even;
                to[1] = s ? add16(to[1], odd) : odd;
            }
        }
    }
}

// Counts [x0, x0 + pixels), and fetches a row that is wanted later on the way. A function of its own: all activation
// functions share it.
template <class B, int NV>
__attribute__((noinline)) void count_chunk(const ConvPlan& p, const ConvRow& r, int x0, int pixels, const uint8_t* w,
                                           Prefetch& prefetch, B* sum) {
    const size_t step = (size_t)p.sw * p.unit;
    const void* const* const act = r.act;
    const Segment* const seg = p.segments;
    const int nseg = p.nsegments;
    for (int x = 0; x < pixels; x += 2) {
        prefetch.next();
        count_pair<B, NV>(act, seg, nseg, (x0 + x) * step, w, sum + x * NV * 2);
    }
}

// The values of one float vector of outputs: pixels from one class of padding to the next.
template <class B, class V, int ACT, int SKIP, bool WHOLE>
LMBQ_INLINE void finish_vector(const ConvPlan& p, const ConvRow& r, const B* sum, size_t sum_step, bool high, int x0,
                               int pixels, int o) {
    const Params<V, ACT> par(p, o);
    const size_t O = p.out_channels;
    const int left = WHOLE ? V::lanes : (int)O - o;
    const uint16_t* const cls = r.cls + x0;
    const float* const factor = r.factor ? r.factor + x0 : nullptr;
    const float* skip = SKIP ? r.skip + x0 * O + o : nullptr;
    float* out = r.out + x0 * O + o;
    for (int i = 0; i < pixels;) {
        const unsigned one = cls[i];
        const V corr = V::load(r.corr + one * (size_t)p.out_pad + o);
        do {
            const V c = high ? V::high_words(*sum) : V::low_words(*sum);
            par.template write<SKIP>(par.scaled(c, corr, factor ? factor + i : nullptr), skip, out, left);
            sum += sum_step, out += O, i++;
            if (SKIP) skip += O;
        } while (i < pixels && cls[i] == one);
    }
}

template <class B, class V, int ACT, int SKIP>
void lut_block(const ConvPlan& p, const ConvRow& r, int o0, int vectors, const uint8_t* w) {
    constexpr int F = B::lanes / 4;
    static_assert(F == V::lanes, "a float vector holds a quarter of the byte vector's lanes");
    const int width = r.width;
    alignas(64) B sum[kChunk * 2 * 2];
    Prefetch prefetch(r, r.width / 2);
    for (int x0 = 0; x0 < width; x0 += kChunk) {
        const int pixels = width - x0 < kChunk ? width - x0 : kChunk;
        if (vectors == 2) count_chunk<B, 2>(p, r, x0, pixels, w, prefetch, sum);
        else count_chunk<B, 1>(p, r, x0, pixels, w, prefetch, sum);
        for (int v = 0; v < vectors; v++)
            for (int q = 0; q < 4; q++) {
                const int o = o0 + v * B::lanes + q * F;
                const B* s = sum + v * 2 + (q & 1);
                const size_t step = (size_t)vectors * 2;
                if (o + F <= p.out_channels) finish_vector<B, V, ACT, SKIP, true>(p, r, s, step, q >= 2, x0, pixels, o);
                else if (o < p.out_channels) finish_vector<B, V, ACT, SKIP, false>(p, r, s, step, q >= 2, x0, pixels, o);
            }
    }
}

template <class B, class V>
struct LutRow {
    template <int ACT, int SKIP>
    void run(const ConvPlan& p, const ConvRow& row) const {
        ConvRow r = row;
        const uint8_t* w = (const uint8_t*)p.weights;
        const size_t per_vector = (size_t)p.kh * p.kw * p.unit * B::lanes;
        int o = 0;
        for (; p.out_channels - o > B::lanes; o += 2 * B::lanes, w += 2 * per_vector) {
            lut_block<B, V, ACT, SKIP>(p, r, o, 2, w);
            r.prefetch = nullptr;
        }
        if (o < p.out_channels) lut_block<B, V, ACT, SKIP>(p, r, o, 1, w);
    }
};
