// SPDX-License-Identifier: Apache-2.0
// Every instruction set against a plain scalar reference: identical bits, identical floats.
// usage: test_kernels [random cases] [seed]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "lmb_quant_kernels.h"

namespace {

std::mt19937 rng;
int pick(int lo, int hi) { return lo + (int)(rng() % (unsigned)(hi - lo + 1)); }
int one_of(std::initializer_list<int> v) { return v.begin()[rng() % v.size()]; }
float real() { return std::normal_distribution<float>(0, 1)(rng); }

struct Case {
    int n, h, w, I, O, groups, kh, kw, sh, sw, dh, dw, pt, pl, pb, pr;
    int threshold, window, act, slopes;
    bool bias, skip, in_place;
    int threads, content;
    bool shift = false;
    std::string text() const {
        char b[400];
        snprintf(b, sizeof b,
                 "n%d %dx%d %d->%d g%d k%dx%d s%dx%d d%dx%d pad %d %d %d %d th%d win%d act%d/%d bias%d skip%d "
                 "inplace%d threads%d content%d shift%d",
                 n, h, w, I, O, groups, kh, kw, sh, sw, dh, dw, pt, pl, pb, pr, threshold, window, act, slopes, bias,
                 skip, in_place, threads, content, shift);
        return b;
    }
    int oh() const { return (h + pt + pb - (kh - 1) * dh - 1) / sh + 1; }
    int ow() const { return (w + pl + pr - (kw - 1) * dw - 1) / sw + 1; }
    bool valid() const { return h + pt + pb >= (kh - 1) * dh + 1 && w + pl + pr >= (kw - 1) * dw + 1; }
    bool given() const { return shift || threshold == LMBQ_THRESHOLD_CHANNEL; }
    bool same_shape() const { return I == O && sh == 1 && oh() == h && ow() == w; }
};

std::vector<float> content(size_t n, int kind, int c) {
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) switch (kind) {
            case 0: v[i] = real(); break;
            case 1: v[i] = (float)pick(-2, 2) * 0.1f; break;                   // many ties
            case 2: v[i] = std::max(0.0f, real()); break;                       // relu-sparse
            case 3: v[i] = 0.3f + 0.1f * (float)(i % (size_t)c % 3); break;     // flat
            case 4: v[i] = 0.001f * (float)i; break;                            // ramp
            default: {
                const float odd[] = {NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 1e-42f, 3e38f, 1.0f};
                v[i] = rng() % 8 ? real() : odd[rng() % 8];
            }
        }
    return v;
}

std::vector<uint8_t> reference_bits(const Case& c, const std::vector<float>& x, const std::vector<float>& t) {
    const float margin = 1.0f / 262144.0f;
    std::vector<uint8_t> b(x.size());
    auto X = [&](int n, int y, int xx, int ch) { return x[(((size_t)n * c.h + y) * c.w + xx) * c.I + ch]; };
    for (int n = 0; n < c.n; n++)
        for (int ch = 0; ch < c.I; ch++) {
            float mean = 0;
            if (c.threshold == LMBQ_THRESHOLD_GLOBAL) {
                double all = 0;
                for (int y = 0; y < c.h; y++) {
                    double row = 0;
                    for (int xx = 0; xx < c.w; xx++) row += (double)X(n, y, xx, ch);
                    all += row;
                }
                mean = (float)(all / ((double)c.h * c.w));
            }
            for (int y = 0; y < c.h; y++)
                for (int xx = 0; xx < c.w; xx++) {
                    const float raw = X(n, y, xx, ch), v = c.shift ? raw - t[(size_t)ch] : raw;
                    bool bit = false;
                    if (c.threshold == LMBQ_THRESHOLD_NONE) bit = raw >= 0;
                    if (c.threshold == LMBQ_THRESHOLD_CHANNEL) bit = raw - t[(size_t)ch] >= 0;
                    if (c.threshold == LMBQ_THRESHOLD_GLOBAL) {
                        const float d = v - mean, e = std::fabs(v) + std::fabs(mean);
                        bit = d >= -(margin * e);
                    }
                    if (c.threshold == LMBQ_THRESHOLD_LOCAL) {
                        const int r = c.window / 2;
                        float S = 0;
                        int count = 0;
                        bool first_column = true;
                        for (int q = xx - r; q <= xx + r; q++) {
                            if (q < 0 || q >= c.w) continue;
                            float column = 0;
                            bool first = true;
                            for (int p = y - r; p <= y + r; p++) {
                                if (p < 0 || p >= c.h) continue;
                                column = first ? X(n, p, q, ch) : column + X(n, p, q, ch);
                                first = false;
                                count++;
                            }
                            S = first_column ? column : S + column;
                            first_column = false;
                        }
                        const float k = (float)count, nx = k * v, d = nx - S, e = k * std::fabs(v) + std::fabs(S);
                        bit = d >= -(margin * e);
                    }
                    b[(((size_t)n * c.h + y) * c.w + xx) * c.I + ch] = bit;
                }
        }
    return b;
}

struct Data {
    std::vector<float> x, skip, t, scale, bias, slope, gamma, zeta, y;
    std::vector<uint8_t> bits, weight, packed;  // weight: one byte a bit, (O, taps, I/groups)
};

Data make(const Case& c) {
    Data d;
    const int per = c.I / c.groups, taps = c.kh * c.kw;
    d.x = content((size_t)c.n * c.h * c.w * c.I, c.content, c.I);
    auto reals = [](size_t n) {
        std::vector<float> v(n);
        for (float& e : v) e = real();
        return v;
    };
    const size_t O = (size_t)c.O;
    d.t = reals((size_t)c.I), d.scale = reals(O), d.bias = reals(O), d.gamma = reals(O), d.zeta = reals(O);
    d.slope = reals((size_t)c.slopes);
    d.weight.resize(O * taps * per);
    const int bytes = (per + 7) / 8;
    d.packed.assign(O * taps * bytes, 0);
    for (size_t i = 0; i < O * taps; i++)
        for (int k = 0; k < per; k++) {
            const bool one = rng() & 1;
            d.weight[i * per + k] = one;
            if (one) d.packed[i * bytes + k / 8] |= (uint8_t)(1 << (k % 8));
        }
    d.bits = reference_bits(c, d.x, d.t);
    const int oh = c.oh(), ow = c.ow();
    d.skip = c.in_place ? d.x : reals((size_t)c.n * oh * ow * O);
    d.y.resize((size_t)c.n * oh * ow * O);
    size_t at = 0;
    for (int n = 0; n < c.n; n++)
        for (int y = 0; y < oh; y++)
            for (int x = 0; x < ow; x++)
                for (int o = 0; o < c.O; o++, at++) {
                    int sum = 0;
                    const int g0 = o / (c.O / c.groups) * per;
                    for (int ky = 0; ky < c.kh; ky++)
                        for (int kx = 0; kx < c.kw; kx++) {
                            const int iy = y * c.sh - c.pt + ky * c.dh, ix = x * c.sw - c.pl + kx * c.dw;
                            if (iy < 0 || iy >= c.h || ix < 0 || ix >= c.w) continue;
                            const uint8_t* b = &d.bits[(((size_t)n * c.h + iy) * c.w + ix) * c.I + g0];
                            const uint8_t* w = &d.weight[((size_t)o * taps + ky * c.kw + kx) * per];
                            for (int k = 0; k < per; k++) sum += b[k] == w[k] ? 1 : -1;
                        }
                    float v = (float)sum * d.scale[(size_t)o];
                    if (c.bias) v = v + d.bias[(size_t)o];
                    const float a = d.slope.empty() ? 0 : d.slope[c.slopes == 1 ? 0 : (size_t)o];
                    if (c.act == LMBQ_ACT_RELU) v = v < 0 ? 0 : v;
                    if (c.act == LMBQ_ACT_LEAKY || c.act == LMBQ_ACT_PRELU) v = v > 0 ? v : a * v;
                    if (c.act == LMBQ_ACT_RPRELU) {
                        const float m = v - d.gamma[(size_t)o], z = d.zeta[(size_t)o];
                        const float yes = m + z, scaled = a * m, no = scaled + z;
                        v = v > d.gamma[(size_t)o] ? yes : no;
                    }
                    if (c.skip) v = v + d.skip[at];
                    d.y[at] = v;
                }
    return d;
}

bool equal(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

lmbq_layer_desc describe(const Case& c, const Data& d, int isa) {
    lmbq_layer_desc s;
    memset(&s, 0, sizeof s);
    s.struct_size = sizeof s;
    s.isa = isa;
    s.in_channels = c.I, s.out_channels = c.O, s.groups = c.groups;
    s.kernel_h = c.kh, s.kernel_w = c.kw, s.stride_h = c.sh, s.stride_w = c.sw, s.dilation_h = c.dh;
    s.dilation_w = c.dw, s.pad_top = c.pt, s.pad_left = c.pl, s.pad_bottom = c.pb, s.pad_right = c.pr;
    s.threshold = c.threshold, s.window = c.window, s.act = c.act, s.slope_count = c.slopes;
    s.weight = d.packed.data(), s.weight_bytes = d.packed.size(), s.scale = d.scale.data();
    s.bias = c.bias ? d.bias.data() : nullptr;
    s.thresholds = c.given() ? d.t.data() : nullptr, s.slope = d.slope.data(), s.gamma = d.gamma.data(), s.zeta = d.zeta.data();
    return s;
}

int failures = 0, checks = 0;
void expect(bool ok, const std::string& what) {
    checks++;
    if (!ok && ++failures < 20) printf("FAILED %s (%s)\n", what.c_str(), lmbq_last_error());
}

void check(const Case& c) {
    const Data d = make(c);
    for (int isa = LMBQ_ISA_PORTABLE; isa <= LMBQ_ISA_NEON; isa++) {
        if (!lmbq_isa_available(isa)) continue;
        const std::string name = std::string(lmbq_isa_name(isa)) + ": " + c.text();
        const size_t bytes = (size_t)(c.I + 7) / 8, pixels = (size_t)c.n * c.h * c.w;
        std::vector<uint8_t> bits(pixels * bytes, 0xcc), want(pixels * bytes, 0);
        for (size_t p = 0; p < pixels; p++)
            for (int k = 0; k < c.I; k++) want[p * bytes + k / 8] |= (uint8_t)(d.bits[p * c.I + k] << (k % 8));
        expect(lmbq_binarize(isa, c.threshold, c.window, c.given() ? d.t.data() : nullptr, d.x.data(), bits.data(), c.n, c.h, c.w, c.I,
                             c.threads) == LMBQ_OK && bits == want, "bits " + name);

        lmbq_layer* layer = nullptr;
        const lmbq_layer_desc s = describe(c, d, isa);
        if (lmbq_layer_create(&s, &layer) != LMBQ_OK) {
            expect(false, "create " + name);
            continue;
        }
        std::vector<float> out(d.y.size(), NAN), x = d.x;
        float* to = out.data();
        const float* skip = c.skip ? d.skip.data() : nullptr;
        if (c.in_place) {
            to = x.data();
            skip = c.skip ? x.data() : nullptr;
        }
        bool ok = lmbq_layer_run(layer, x.data(), skip, to, c.n, c.h, c.w, c.threads) == LMBQ_OK;
        size_t bad = 0;
        for (size_t i = 0; ok && i < d.y.size(); i++) bad += !equal(to[i], d.y[i]);
        expect(ok && bad == 0, std::string(lmbq_layer_kernel(layer)) + " " + std::to_string(bad) + " wrong of " +
                                   std::to_string(d.y.size()) + ", " + name);
        lmbq_layer_destroy(layer);
    }
}

Case base() {
    return {1, 7, 9, 64, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, LMBQ_THRESHOLD_LOCAL, 3, LMBQ_ACT_RPRELU, 64,
            true, true, true, 1, 0};
}

void fill_act(Case& c, int act) {
    c.act = act;
    c.slopes = act == LMBQ_ACT_LEAKY ? 1 : act == LMBQ_ACT_PRELU ? (rng() % 2 ? 1 : c.O) : act == LMBQ_ACT_RPRELU ? c.O : 0;
}

Case random_case() {
    for (;;) {
        Case c = base();
        c.n = pick(1, 3), c.h = pick(1, 14), c.w = pick(1, 19);
        c.I = rng() % 2 ? one_of({1, 3, 31, 48, 60, 63, 64, 65, 128}) : pick(1, 70);
        c.O = rng() % 3 == 0 ? c.I : rng() % 2 ? one_of({1, 3, 31, 32, 33, 48, 60, 63, 64, 65, 96}) : pick(1, 70);
        if (rng() % 6 == 0) {
            c.groups = pick(2, 5);
            c.I = c.groups * pick(1, 70 / c.groups), c.O = c.groups * pick(1, 40 / c.groups);
        }
        c.kh = one_of({1, 1, 2, 3, 3, 3, 4, 5, 7}), c.kw = rng() % 3 ? c.kh : pick(1, 7);
        c.sh = one_of({1, 1, 1, 2, 3}), c.sw = rng() % 3 ? c.sh : pick(1, 3);
        c.dh = one_of({1, 1, 1, 2, 3}), c.dw = rng() % 3 ? c.dh : pick(1, 3);
        if (rng() % 2) {
            c.sh = c.sw = 1, c.O = c.I, c.groups = 1;
            c.pt = (c.kh - 1) * c.dh / 2, c.pb = (c.kh - 1) * c.dh - c.pt;
            c.pl = (c.kw - 1) * c.dw / 2, c.pr = (c.kw - 1) * c.dw - c.pl;
        } else {
            c.pt = pick(0, 4), c.pb = pick(0, 4), c.pl = pick(0, 4), c.pr = pick(0, 4);
        }
        if (!c.valid()) continue;
        c.threshold = one_of({LMBQ_THRESHOLD_NONE, LMBQ_THRESHOLD_CHANNEL, LMBQ_THRESHOLD_LOCAL, LMBQ_THRESHOLD_LOCAL,
                              LMBQ_THRESHOLD_GLOBAL});
        c.window = 2 * pick(0, 8) + 1;
        c.shift = (c.threshold == LMBQ_THRESHOLD_LOCAL || c.threshold == LMBQ_THRESHOLD_GLOBAL) && rng() % 2;
        c.bias = rng() % 4 != 0, c.skip = rng() % 2, c.in_place = c.same_shape() && rng() % 3;
        c.threads = pick(1, 3), c.content = pick(0, 5);
        if (rng() % 4 == 0) c.h = pick(20, 40), c.n = 1;
        fill_act(c, pick(LMBQ_ACT_NONE, LMBQ_ACT_RPRELU));
        return c;
    }
}

void listed_shapes() {
    for (int ch : {1, 3, 31, 48, 60, 63, 64, 65, 180, 256})
        for (int k : {1, 3, 5})
            for (int hw : {1, 8}) {
                Case c = base();
                c.I = c.O = ch, c.kh = c.kw = k, c.pt = c.pl = c.pb = c.pr = k / 2, c.h = hw, c.w = hw == 1 ? 1 : 11;
                fill_act(c, LMBQ_ACT_RPRELU);
                check(c);
                c.in_place = false, c.sh = c.sw = 2;
                check(c);
                c.dh = c.dw = 2, c.pt = c.pl = c.pb = c.pr = k - k / 2;
                if (c.valid()) check(c);
            }
    for (int window = 3; window <= 15; window += 2)
        for (int kind = 0; kind <= 4; kind++) {
            Case c = base();
            c.h = 12, c.w = 21, c.I = c.O = 17, c.window = window, c.content = kind, c.threads = 2;
            fill_act(c, LMBQ_ACT_RPRELU);
            check(c);
            c.shift = true;
            check(c);
        }
    // enough work for the pool, in place, with halos of several rows
    for (int window : {3, 9})
        for (int threads : {1, 2, 4}) {
            Case c = base();
            c.h = 61, c.w = 40, c.window = window, c.threads = threads, c.n = threads == 4 ? 2 : 1;
            check(c);
            c.kh = c.kw = 1, c.pt = c.pl = c.pb = c.pr = 0;
            check(c);
        }
    // counts near the limits of bytes: every bit differs
    Case c = base();
    c.I = 256, c.O = 64, c.in_place = false, c.content = 3, c.threshold = LMBQ_THRESHOLD_NONE;
    check(c);
}

void all_different() {
    for (int I : {4, 20, 60, 64, 128, 256, 1024}) {
        Case c = base();
        c.I = I, c.O = 64, c.in_place = false, c.skip = false, c.threshold = LMBQ_THRESHOLD_NONE, c.h = 3, c.w = 5;
        fill_act(c, LMBQ_ACT_NONE);
        Data d = make(c);
        std::fill(d.x.begin(), d.x.end(), 1.0f);
        std::fill(d.packed.begin(), d.packed.end(), (uint8_t)0);
        std::fill(d.bias.begin(), d.bias.end(), 0.0f);
        std::fill(d.scale.begin(), d.scale.end(), 1.0f);
        for (int isa = LMBQ_ISA_PORTABLE; isa <= LMBQ_ISA_NEON; isa++) {
            if (!lmbq_isa_available(isa)) continue;
            lmbq_layer* layer = nullptr;
            const lmbq_layer_desc s = describe(c, d, isa);
            std::vector<float> out(d.y.size());
            bool ok = lmbq_layer_create(&s, &layer) == LMBQ_OK &&
                      lmbq_layer_run(layer, d.x.data(), nullptr, out.data(), 1, 3, 5, 1) == LMBQ_OK;
            expect(ok && out[(5 + 2) * 64 + 63] == -9.0f * (float)I && out[0] == -4.0f * (float)I,
                   "all different " + std::to_string(I));
            lmbq_layer_destroy(layer);
        }
    }
}

void refused() {
    Case c = base();
    const Data d = make(c);
    lmbq_layer* layer = nullptr;
    auto bad = [&](const char* what, const std::function<void(lmbq_layer_desc&)>& spoil, int status = LMBQ_INVALID) {
        lmbq_layer_desc s = describe(c, d, LMBQ_ISA_PORTABLE);
        spoil(s);
        expect(lmbq_layer_create(&s, &layer) == status && !layer && *lmbq_last_error(), std::string("refuses ") + what);
        lmbq_layer_destroy(layer);
    };
    bad("struct size", [](lmbq_layer_desc& s) { s.struct_size--; });
    bad("weight bytes", [](lmbq_layer_desc& s) { s.weight_bytes--; });
    bad("no weight", [](lmbq_layer_desc& s) { s.weight = nullptr; });
    bad("channels", [](lmbq_layer_desc& s) { s.in_channels = 0; });
    bad("huge channels", [](lmbq_layer_desc& s) { s.out_channels = 1 << 30; });
    bad("groups", [](lmbq_layer_desc& s) { s.groups = 3; });
    bad("tail bits", [](lmbq_layer_desc& s) { s.in_channels = 63; });
    bad("stride", [](lmbq_layer_desc& s) { s.stride_w = 0; });
    bad("padding", [](lmbq_layer_desc& s) { s.pad_top = -1; });
    bad("window", [](lmbq_layer_desc& s) { s.window = 4; });
    bad("thresholds", [](lmbq_layer_desc& s) { s.threshold = LMBQ_THRESHOLD_CHANNEL, s.thresholds = nullptr; });
    bad("act", [](lmbq_layer_desc& s) { s.act = 9; });
    bad("rprelu", [](lmbq_layer_desc& s) { s.gamma = nullptr; });
    bad("isa", [](lmbq_layer_desc& s) { s.isa = 77; }, LMBQ_UNSUPPORTED);
    setenv("LMB_QUANT_ISA", "sse9", 1);
    bad("environment", [](lmbq_layer_desc& s) { s.isa = LMBQ_ISA_AUTO; }, LMBQ_UNSUPPORTED);
    setenv("LMB_QUANT_ISA", "portable", 1);
    int isa = 0;
    expect(lmbq_isa_selected(&isa) == LMBQ_OK && isa == LMBQ_ISA_PORTABLE, "LMB_QUANT_ISA=portable");
    unsetenv("LMB_QUANT_ISA");

    lmbq_layer_desc s = describe(c, d, LMBQ_ISA_AUTO);
    expect(lmbq_layer_create(&s, &layer) == LMBQ_OK, "create");
    std::vector<float> x = d.x;
    expect(lmbq_layer_run(layer, x.data(), nullptr, x.data() + 64, 1, 6, 9, 1) == LMBQ_INVALID, "refuses overlap");
    expect(lmbq_layer_run(layer, x.data(), nullptr, nullptr, 1, 7, 9, 1) == LMBQ_INVALID, "refuses null");
    expect(lmbq_layer_run(layer, x.data(), nullptr, x.data(), 1, 0, 9, 1) == LMBQ_INVALID, "refuses height 0");
    expect(lmbq_layer_run(nullptr, x.data(), nullptr, x.data(), 1, 7, 9, 1) == LMBQ_INVALID, "refuses no layer");
    lmbq_layer_destroy(layer);
}

void concurrent() {  // the same layer from several threads, each with its own pool request
    Case c = base();
    c.h = 40, c.w = 33;
    const Data d = make(c);
    lmbq_layer* layer = nullptr;
    const lmbq_layer_desc s = describe(c, d, LMBQ_ISA_AUTO);
    expect(lmbq_layer_create(&s, &layer) == LMBQ_OK, "create");
    std::vector<std::thread> threads;
    std::vector<int> ok(4, 1);
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 20; i++) {
                std::vector<float> x = d.x;
                lmbq_layer_run(layer, x.data(), x.data(), x.data(), c.n, c.h, c.w, 2);
                for (size_t k = 0; k < x.size(); k++) ok[(size_t)t] &= equal(x[k], d.y[k]);
            }
        });
    for (auto& t : threads) t.join();
    for (int k : ok) expect(k, "concurrent calls");
    lmbq_layer_destroy(layer);
    lmbq_workspace_trim();
    expect(lmbq_workspace_bytes() == 0, "trim gives everything back");
}

}  // namespace

int main(int argc, char** argv) {
    const int cases = argc > 1 ? atoi(argv[1]) : 300;
    rng.seed(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
    for (int i = LMBQ_ISA_PORTABLE; i <= LMBQ_ISA_NEON; i++)
        if (lmbq_isa_available(i)) printf("%s ", lmbq_isa_name(i));
    printf("\n");
    refused();
    all_different();
    concurrent();
    listed_shapes();
    for (int i = 0; i < cases; i++) check(random_case());
    printf("%d checks, %d failed\n", checks, failures);
    return failures != 0;
}
