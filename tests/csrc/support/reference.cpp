// SPDX-License-Identifier: Apache-2.0
#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lmbq_test {
namespace {

float special() {
    const float odd[] = {NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 1e-42f, -3e38f, 3e38f, 1.0f};
    return odd[rng() % 9];
}

float value(int content, size_t i, int channels) {
    switch (content) {
        case TIES: return (float)pick(-2, 2) * 0.1f;
        case SPARSE: return std::max(0.0f, real());
        case FLAT: return 0.3f + 0.1f * (float)(i % (size_t)channels % 3);
        case RAMP: return 0.001f * (float)i;
        case SPECIAL: return rng() % 8 ? real() : special();
        case DENORMAL: return (float)pick(-9, 9) * 1e-44f;
        case HUGE_VALUES: return real() * 1e38f;
        default: return real();
    }
}

std::vector<float> reals(size_t n, bool with_special) {
    std::vector<float> v(n);
    for (float& e : v) e = with_special && rng() % 4 == 0 ? special() : real();
    return v;
}

bool above(float n, float d, float s) {
    const float margin = 1.0f / 262144.0f, left = n * d - s, e = n * std::fabs(d) + std::fabs(s);
    return left >= -(margin * e);
}

struct Bits {
    const Case& c;
    const Data& d;

    float x(int n, int row, int col, int ch) const { return d.x[(((size_t)n * c.h + row) * c.w + col) * c.I + ch]; }

    float frame_mean(int n, int ch) const {
        double all = 0;
        for (int row = 0; row < c.h; row++) {
            double sum = 0;
            for (int col = 0; col < c.w; col++) sum += (double)x(n, row, col, ch);
            all += sum;
        }
        return (float)(all / ((double)c.h * c.w));
    }

    bool local(int n, int row, int col, int ch, float v, float gain) const {
        const int half = c.window / 2, y0 = std::max(0, row - half), y1 = std::min(c.h - 1, row + half);
        const int x0 = std::max(0, col - half), x1 = std::min(c.w - 1, col + half);
        float sum = 0;
        for (int q = x0; q <= x1; q++) {
            float column = x(n, y0, q, ch);
            for (int p = y0 + 1; p <= y1; p++) column = column + x(n, p, q, ch);
            sum = q == x0 ? column : sum + column;
        }
        return above((float)((y1 - y0 + 1) * (x1 - x0 + 1)), v, sum * gain);
    }

    bool one(int n, int row, int col, int ch, float mean) const {
        const float raw = x(n, row, col, ch), v = c.thresholds_given() ? raw - d.thresholds[(size_t)ch] : raw;
        const float gain = c.gain ? d.gain[(size_t)ch] : 1.0f;
        switch (c.threshold) {
            case LMBQ_THRESHOLD_LOCAL: return local(n, row, col, ch, v, gain);
            case LMBQ_THRESHOLD_GLOBAL: return above(1.0f, v, mean * gain);
            default: return v >= 0;
        }
    }
};

void compute_bits(const Case& c, Data& d) {
    const Bits b{c, d};
    const size_t bytes = (size_t)(c.I + 7) / 8;
    d.bits.resize(c.inputs());
    d.y_bits.assign((size_t)c.n * c.h * c.w * bytes, 0);
    for (int n = 0; n < c.n; n++)
        for (int ch = 0; ch < c.I; ch++) {
            const float mean = c.threshold == LMBQ_THRESHOLD_GLOBAL ? b.frame_mean(n, ch) : 0;
            for (int row = 0; row < c.h; row++)
                for (int col = 0; col < c.w; col++) {
                    const size_t pixel = ((size_t)n * c.h + row) * c.w + col;
                    const bool one = b.one(n, row, col, ch, mean);
                    d.bits[pixel * c.I + ch] = one;
                    d.y_bits[pixel * bytes + ch / 8] |= (uint8_t)(one << (ch % 8));
                }
        }
}

int sum_at(const Case& c, const Data& d, int n, int row, int col, int o) {
    const int per = c.I / c.groups, first = o / (c.O / c.groups) * per;
    int sum = 0;
    for (int ky = 0; ky < c.kh; ky++)
        for (int kx = 0; kx < c.kw; kx++) {
            const int y = row * c.sh - c.top + ky * c.dh, x = col * c.sw - c.left + kx * c.dw;
            if (y < 0 || y >= c.h || x < 0 || x >= c.w) continue;
            const uint8_t* b = &d.bits[(((size_t)n * c.h + y) * c.w + x) * c.I + first];
            const uint8_t* w = &d.weight[((size_t)o * c.kh * c.kw + ky * c.kw + kx) * per];
            for (int k = 0; k < per; k++) sum += b[k] == w[k] ? 1 : -1;
        }
    return sum;
}

float pixel_factor(const Case& c, const Data& d, int n, int row, int col) {
    const float* x = &d.x[(((size_t)n * c.h + row) * c.w + col) * c.I];
    float sums[16] = {0};
    for (int ch = 0; ch < c.I; ch++) {
        const float product = x[ch] * d.factor[(size_t)ch];
        sums[ch % 16] = sums[ch % 16] + product;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] = sums[i] + sums[i + half];
    const float f = sums[0] + d.factor[(size_t)c.I];
    return f < 0 ? 0 : f > 1 ? 1 : f;
}

float exp_limited(float u) {
    u = u < -87 ? -87 : u > 89 ? 89 : u;
    const float scaled = u * 1.4426950216293335f, n = std::nearbyint(scaled);
    const float high = n * 0.693145751953125f, low = n * 1.428606765330187e-06f, r = (u - high) - low;
    float q = 0.0013814539415761828f;
    for (float c : {0.00836874544620514f, 0.04166838899254799f, 0.1666652113199234f, 0.4999999403953552f}) {
        const float product = q * r;
        q = product + c;
    }
    const float square = r * r, product = q * square;
    return ((product + r) + 1) * (n > 127 ? INFINITY : std::ldexp(1.0f, std::isnan(n) ? 0 : (int)n));
}

float activate(const Case& c, const Data& d, float v, size_t o) {
    const float slope = d.slope.empty() ? 0 : d.slope[c.slopes == 1 ? 0 : o];
    if (c.act == LMBQ_ACT_RELU) return v < 0 ? 0 : v;
    if (c.act == LMBQ_ACT_HARDTANH) return v < -1 ? -1 : v > 1 ? 1 : v;
    if (c.act == LMBQ_ACT_SILU) return v / (exp_limited(0 - v) + 1);
    if (c.act == LMBQ_ACT_LEAKY || c.act == LMBQ_ACT_PRELU) return v > 0 ? v : slope * v;
    if (c.act != LMBQ_ACT_RPRELU) return v;
    const float moved = v - d.gamma[o], scaled = slope * moved;
    return (v > d.gamma[o] ? moved : scaled) + d.zeta[o];
}

}  // namespace

Data make(const Case& c) {
    Data d;
    const size_t O = (size_t)c.O, per = (size_t)(c.I / c.groups), rows = O * c.kh * c.kw, bytes = (per + 7) / 8;
    d.x.resize(c.inputs());
    for (size_t i = 0; i < d.x.size(); i++) d.x[i] = value(c.content, i, c.I);
    const bool odd = c.special_parameters;
    d.thresholds = reals((size_t)c.I, odd), d.gain = reals((size_t)c.I, odd);
    d.factor = reals((size_t)c.I + 1, odd);
    for (float& f : d.factor) f *= 0.25f;  // so that not most of them end at 0 or 1
    d.scale = reals(O, odd), d.bias = reals(O, odd), d.gamma = reals(O, odd), d.zeta = reals(O, odd);
    d.slope = reals((size_t)c.slopes, odd);
    d.weight.resize(rows * per);
    d.packed_weight.assign(rows * bytes, 0);
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < per; k++) {
            d.weight[i * per + k] = rng() & 1;
            d.packed_weight[i * bytes + k / 8] |= (uint8_t)(d.weight[i * per + k] << (k % 8));
        }
    if (c.skip == SKIP_GIVEN) d.skip = reals(c.outputs(), odd);
    if (c.skip == SKIP_INPUT) d.skip = d.x;
    compute(c, d);
    return d;
}

void compute(const Case& c, Data& d) {
    compute_bits(c, d);
    d.y.resize(c.outputs());
    size_t at = 0;
    for (int n = 0; n < c.n; n++)
        for (int row = 0; row < c.oh(); row++)
            for (int col = 0; col < c.ow(); col++) {
                const float factor = c.factor ? pixel_factor(c, d, n, row, col) : 1.0f;
                for (size_t o = 0; o < (size_t)c.O; o++, at++) {
                    float v = (float)sum_at(c, d, n, row, col, (int)o) * d.scale[o];
                    if (c.factor) v = v * factor;
                    if (c.bias) v = v + d.bias[o];
                    const bool before = c.act_on == LMBQ_ACT_ON_SUM;
                    if (c.skip && before) v = v + d.skip[at];
                    v = activate(c, d, v, o);
                    d.y[at] = c.skip && !before ? v + d.skip[at] : v;
                }
            }
}

lmbq_layer_desc Data::describe(const Case& c, int isa) const {
    lmbq_layer_desc s;
    memset(&s, 0, sizeof s);
    s.struct_size = sizeof s;
    s.isa = isa;
    s.in_channels = c.I, s.out_channels = c.O, s.groups = c.groups;
    s.kernel_h = c.kh, s.kernel_w = c.kw, s.stride_h = c.sh, s.stride_w = c.sw;
    s.dilation_h = c.dh, s.dilation_w = c.dw;
    s.pad_top = c.top, s.pad_left = c.left, s.pad_bottom = c.bottom, s.pad_right = c.right;
    s.threshold = c.threshold, s.window = c.window, s.act = c.act, s.slope_count = c.slopes;
    s.act_on = c.act_on;
    s.weight_bytes = packed_weight.size(), s.weight = packed_weight.data();
    s.scale = scale.data(), s.bias = c.bias ? bias.data() : nullptr;
    s.thresholds = c.thresholds_given() ? thresholds.data() : nullptr;
    s.gain = c.gain ? gain.data() : nullptr;
    s.slope = slope.data(), s.gamma = gamma.data(), s.zeta = zeta.data();
    s.pixel_factor = c.factor ? factor.data() : nullptr;
    return s;
}

}  // namespace lmbq_test
