// SPDX-License-Identifier: Apache-2.0
// The backward pass of a layer that trains: every instruction set of this machine against plain loops in double precision,
// in one call and in two, and what the interface refuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "support/check.hpp"

using namespace lmbq_test;

namespace {

using Values = std::vector<double>;

struct Gradients {
    std::vector<float> x, weight, bias, slope, gamma, zeta, shift, gain, factor;
    explicit Gradients(const Case& c)
        : x(c.inputs()), weight((size_t)c.O * c.kh * c.kw * c.I), bias((size_t)c.O), slope((size_t)c.O), gamma((size_t)c.O),
          zeta((size_t)c.O), shift((size_t)c.I), gain((size_t)c.I), factor((size_t)c.I + 1) {}
};

double derivative(int surrogate, double u) {
    switch (surrogate) {
        case LMBQ_SURROGATE_STE: return std::fabs(u) <= 1;
        case LMBQ_SURROGATE_IDENTITY: return 1;
        case LMBQ_SURROGATE_APPROX_SIGN: return std::max(0.0, 2 - 2 * std::fabs(u));
        default: return std::max(0.0, 4 - 8 * std::fabs(u));
    }
}

// One image's pixels whose box holds (row, col), or the whole frame.
struct Window {
    int y0, y1, x0, x1;
    double count() const { return (double)(y1 - y0 + 1) * (x1 - x0 + 1); }
};
Window window_of(const Case& c, int row, int col) {
    if (c.threshold == LMBQ_THRESHOLD_GLOBAL) return {0, c.h - 1, 0, c.w - 1};
    const int half = c.window / 2;
    return {std::max(0, row - half), std::min(c.h - 1, row + half), std::max(0, col - half), std::min(c.w - 1, col + half)};
}

struct Reference {
    const Case& c;
    const Data& d;
    const std::vector<float>& grad_out;
    int surrogate;
    bool detach;
    Values x, weight, bias, slope, gamma, zeta, shift, gain, factor;

    size_t in(int n, int y, int q, int i) const { return (((size_t)n * c.h + y) * c.w + q) * c.I + i; }
    double bit(size_t at) const { return d.bits[at] ? 1 : -1; }
    double sign(int o, int t, int i) const { return d.weight[((size_t)o * c.kh * c.kw + t) * c.I + i] ? 1 : -1; }
    template <class F>
    void taps(int y, int q, F f) const {
        for (int ky = 0; ky < c.kh; ky++)
            for (int kx = 0; kx < c.kw; kx++) {
                const int row = y + ky - c.top, col = q + kx - c.left;
                if (row >= 0 && row < c.h && col >= 0 && col < c.w) f(ky * c.kw + kx, row, col);
            }
    }

    void run() {
        x.assign(c.inputs(), 0), weight.assign((size_t)c.O * c.kh * c.kw * c.I, 0);
        for (Values* v : {&bias, &slope, &gamma, &zeta}) v->assign((size_t)c.O, 0);
        shift.assign((size_t)c.I, 0), gain.assign((size_t)c.I, 0), factor.assign((size_t)c.I + 1, 0);
        Values bits(c.inputs(), 0);
        for (int n = 0; n < c.n; n++)
            for (int y = 0; y < c.oh(); y++)
                for (int q = 0; q < c.ow(); q++) pixel(n, y, q, bits);
        threshold(bits);
    }

    void pixel(int n, int y, int q, Values& bits) {
        double f = 1, z = 0, towards = 0;
        if (c.factor) {
            z = (double)d.factor[(size_t)c.I];
            for (int i = 0; i < c.I; i++) z += (double)d.factor[(size_t)i] * (double)d.x[in(n, y, q, i)];
            f = std::min(1.0, std::max(0.0, z));
        }
        for (int o = 0; o < c.O; o++) {
            double sum = 0;
            taps(y, q, [&](int t, int row, int col) {
                for (int i = 0; i < c.I; i++) sum += bit(in(n, row, col, i)) * sign(o, t, i);
            });
            const size_t so = (size_t)o, at = (((size_t)n * c.oh() + y) * c.ow() + q) * c.O + so;
            const double alpha = (double)d.scale[so], a = alpha * sum;
            double v = f * a + (c.bias ? (double)d.bias[so] : 0), g = (double)grad_out[at];
            const bool before = c.skip == SKIP_INPUT && c.act_on == LMBQ_ACT_ON_SUM;
            if (before) v += (double)d.x[at];
            else if (c.skip == SKIP_INPUT) x[at] += g;
            if (c.act == LMBQ_ACT_RELU) g = v > 0 ? g : 0;
            if (c.act == LMBQ_ACT_HARDTANH) g = std::fabs(v) < 1 ? g : 0;
            if (c.act == LMBQ_ACT_SILU) {
                const double sigmoid = 1 / (1 + std::exp(-v));
                g *= sigmoid * (1 + v * (1 - sigmoid));
            }
            if (c.act == LMBQ_ACT_LEAKY || c.act == LMBQ_ACT_PRELU || c.act == LMBQ_ACT_RPRELU) {
                const bool shifted = c.act == LMBQ_ACT_RPRELU;
                const double s = (double)d.slope[c.slopes > 1 ? so : 0], u = v - (shifted ? (double)d.gamma[so] : 0);
                zeta[so] += shifted ? g : 0;
                slope[so] += u > 0 ? 0 : u * g;
                g = u > 0 ? g : s * g;
                gamma[so] -= shifted ? g : 0;
            }
            if (before) x[at] += g;
            bias[so] += g;
            towards += g * a;
            taps(y, q, [&](int t, int row, int col) {
                for (int i = 0; i < c.I; i++) {
                    const size_t b = in(n, row, col, i);
                    weight[((so * c.kh * c.kw) + t) * c.I + i] += g * f * alpha * bit(b);
                    bits[b] += g * f * alpha * sign(o, t, i);
                }
            });
        }
        if (!c.factor || z < 0 || z > 1) return;
        factor[(size_t)c.I] += towards;
        for (int i = 0; i < c.I; i++) {
            factor[(size_t)i] += towards * (double)d.x[in(n, y, q, i)];
            x[in(n, y, q, i)] += towards * (double)d.factor[(size_t)i];
        }
    }

    void threshold(const Values& bits) {
        const bool mean = c.threshold == LMBQ_THRESHOLD_LOCAL || c.threshold == LMBQ_THRESHOLD_GLOBAL;
        for (int n = 0; n < c.n; n++)
            for (int y = 0; y < c.h; y++)
                for (int q = 0; q < c.w; q++)
                    for (int i = 0; i < c.I; i++) {
                        const size_t at = in(n, y, q, i);
                        const Window w = window_of(c, y, q);
                        const double k = c.gain ? (double)d.gain[(size_t)i] : 1;
                        double t = 0;
                        for (int r = w.y0; mean && r <= w.y1; r++)
                            for (int s = w.x0; s <= w.x1; s++) t += (double)d.x[in(n, r, s, i)] / w.count();
                        const double u = (double)d.x[at] - (c.thresholds_given() ? (double)d.thresholds[(size_t)i] : 0) - k * t;
                        const double g = bits[at] * derivative(surrogate, u);
                        x[at] += g;
                        shift[(size_t)i] -= g;
                        gain[(size_t)i] -= g * t;
                        for (int r = w.y0; mean && !detach && r <= w.y1; r++)
                            for (int s = w.x0; s <= w.x1; s++) x[in(n, r, s, i)] -= g * k / w.count();
                    }
    }
};

void compare(const char* name, const std::vector<float>& found, const Values& wanted, const std::string& where) {
    double error = 0, size = 1e-3;
    for (size_t i = 0; i < wanted.size(); i++) {
        error += std::pow((double)found[i] - wanted[i], 2);
        size += std::pow(wanted[i], 2);
    }
    expect(std::sqrt(error) <= 2e-5 * std::sqrt(size), std::string("gradient of ") + name + ", " + where);
}

lmbq_backward describe(const Case& c, const Data& d, const std::vector<uint8_t>& bits, int surrogate, bool detach) {
    lmbq_backward b;
    std::memset(&b, 0, sizeof b);
    b.struct_size = sizeof b;
    b.surrogate = surrogate, b.detach = detach, b.skip = c.skip == SKIP_INPUT;
    b.x = d.x.data(), b.bits = bits.data();
    return b;
}

void check_backward(Case c, int surrogate, bool detach) {
    if (c.skip == SKIP_GIVEN) c.skip = SKIP_INPUT;
    if (!c.same_shape()) c.skip = SKIP_NONE;
    if (!c.keeps_size()) c.factor = false;
    Data d = make(c);
    compute(c, d);
    std::vector<float> grad_out(c.outputs());
    for (float& g : grad_out) g = real();
    Reference r{c, d, grad_out, surrogate, detach, {}, {}, {}, {}, {}, {}, {}, {}, {}};
    r.run();
    for (int isa : isas()) {
        const Layer layer = create(c, d, isa);
        if (!layer) continue;
        const std::string where = std::string(lmbq_isa_name(isa)) + ": " + c.text();
        std::vector<uint8_t> bits((size_t)c.n * c.h * c.w * ((c.I + 63) / 64 * 8));
        std::vector<float> y(c.outputs()), again(c.outputs());
        const float* skip = c.skip == SKIP_INPUT ? d.x.data() : nullptr;
        bool ok = lmbq_layer_run_bits(layer.get(), d.x.data(), nullptr, bits.data(), skip, y.data(), c.n, c.h, c.w, c.threads) == LMBQ_OK;
        ok = ok && lmbq_layer_run_bits(layer.get(), d.x.data(), bits.data(), nullptr, skip, again.data(), c.n, c.h, c.w, c.threads) == LMBQ_OK;
        expect(ok && different(again.data(), y) == 0, "the output again from the bits, " + where);
        expect(different(y.data(), d.y) == 0, "the output beside kept bits, " + where);
        if (!lmbq_layer_has_gradients(layer.get())) continue;
        for (bool in_place : {false, true}) {
            Gradients g(c);
            std::vector<float> x = d.x;
            lmbq_backward b = describe(c, d, bits, surrogate, detach);
            b.grad_out = grad_out.data();
            if (in_place) b.x = x.data();
            b.grad_x = in_place ? x.data() : g.x.data();
            b.grad_weight = g.weight.data(), b.grad_bias = g.bias.data();
            b.grad_slope = g.slope.data(), b.grad_gamma = g.gamma.data(), b.grad_zeta = g.zeta.data();
            b.grad_shift = g.shift.data(), b.grad_gain = g.gain.data(), b.grad_factor = g.factor.data();
            expect(lmbq_layer_backward(layer.get(), &b, c.n, c.h, c.w, c.threads) == LMBQ_OK && b.finite, "runs, " + where);
            compare("x", in_place ? x : g.x, r.x, where);
            compare("the weight", g.weight, r.weight, where);
            compare("the bias", g.bias, r.bias, where);
            if (c.slopes) compare("the slope", g.slope, r.slope, where);
            if (c.act == LMBQ_ACT_RPRELU) compare("gamma", g.gamma, r.gamma, where), compare("zeta", g.zeta, r.zeta, where);
            if (c.thresholds_given()) compare("the shift", g.shift, r.shift, where);
            if (c.gain) compare("the gain", g.gain, r.gain, where);
            if (c.factor) compare("the factor", g.factor, r.factor, where);
        }
    }
}

void backward() {
    for (int channels : {1, 3, 15, 16, 17, 33, 64, 70})
        for (int kernel : {1, 3})
            for (int size : {1, 7, 34}) {
                Case c;
                c.set_channels(channels, channels);
                c.set_kernel(kernel);
                c.n = size == 7 ? 3 : 1;
                c.h = size == 34 ? 3 : size, c.w = size;
                c.threads = 2;
                c.factor = channels % 2 == 0;
                c.gain = c.shift = channels > 16;
                c.act_on = kernel == 3 ? LMBQ_ACT_ON_SUM : LMBQ_ACT_ON_BRANCH;
                check_backward(c, LMBQ_SURROGATE_APPROX_SIGN, false);
            }
    for (int i = 0; i < 60; i++) {
        Case c = random_case();
        c.content = NOISE, c.special_parameters = false;
        c.groups = c.sh = c.sw = c.dh = c.dw = 1;
        c.set_channels(pick(1, 40), c.skip == SKIP_NONE ? pick(1, 40) : c.I);
        if (c.skip != SKIP_NONE) c.set_channels(c.I, c.I);
        c.n = pick(1, 3), c.h = pick(1, 9), c.w = pick(1, 40);
        if (!c.valid()) continue;
        check_backward(c, pick(LMBQ_SURROGATE_STE, LMBQ_SURROGATE_TRIANGLE_HALF), rng() % 4 == 0);
    }
}

// Gradients of the sums that overflow, though those of the output do not.
void not_finite() {
    Case c;
    c.n = 1, c.h = c.w = 1;
    c.set_channels(1, 1);
    c.set_act(LMBQ_ACT_NONE);
    c.skip = SKIP_NONE, c.threads = 2;
    Data d = make(c);
    d.scale.assign(d.scale.size(), 2.0f);
    compute(c, d);
    for (int isa : isas()) {
        const Layer layer = create(c, d, isa);
        std::vector<uint8_t> bits(8);
        std::vector<float> weight(9);
        for (const float grad : {1e38f, 3e38f}) {
            lmbq_backward b = describe(c, d, bits, LMBQ_SURROGATE_STE, false);
            b.grad_out = &grad, b.grad_weight = weight.data();
            expect(lmbq_layer_backward(layer.get(), &b, 1, 1, 1, 1) == LMBQ_OK && b.finite == (grad < 2e38f),
                   std::string("tells gradients that are not finite, ") + lmbq_isa_name(isa));
        }
    }
}

void refusals() {
    Case c;
    Data d = make(c);
    compute(c, d);
    const Layer layer = create(c, d, LMBQ_ISA_PORTABLE);
    std::vector<uint8_t> bits((size_t)c.n * c.h * c.w * 8);
    std::vector<float> out(std::max(c.inputs(), c.outputs()));
    auto bad = [&](const char* what, const std::function<void(lmbq_backward&)>& spoil) {
        lmbq_backward b = describe(c, d, bits, LMBQ_SURROGATE_STE, false);
        b.grad_out = out.data(), b.grad_x = out.data();
        spoil(b);
        expect(lmbq_layer_backward(layer.get(), &b, c.n, c.h, c.w, 1) == LMBQ_INVALID && *lmbq_last_error(),
               std::string("refuses ") + what);
    };
    bad("struct size", [](lmbq_backward& b) { b.struct_size--; });
    bad("no x", [](lmbq_backward& b) { b.x = nullptr; });
    bad("no bits", [](lmbq_backward& b) { b.bits = nullptr; });
    bad("no gradient", [](lmbq_backward& b) { b.grad_out = nullptr; });
    bad("surrogate", [](lmbq_backward& b) { b.surrogate = 9; });
    bad("no derivative", [](lmbq_backward& b) { b.surrogate = LMBQ_SURROGATE_GIVEN; });
    bad("no gradient of the skip", [&](lmbq_backward& b) { b.grad_bits = out.data(), b.skip = 1, b.grad_out = nullptr; });
    lmbq_backward b = describe(c, d, bits, LMBQ_SURROGATE_STE, false);
    b.grad_out = out.data();
    expect(lmbq_layer_backward(nullptr, &b, 1, 7, 9, 1) == LMBQ_INVALID, "refuses no layer");
    expect(lmbq_layer_backward(layer.get(), nullptr, 1, 7, 9, 1) == LMBQ_INVALID, "refuses no description");
    expect(lmbq_layer_backward(layer.get(), &b, 0, 7, 9, 1) == LMBQ_INVALID, "refuses an empty batch");
    expect(!lmbq_layer_has_gradients(nullptr), "no layer has no gradients");
    uint8_t packed[8];
    expect(lmbq_pack_signs(nullptr, 1, 1, 1, 1, 1, 1, packed) == LMBQ_INVALID, "refuses no weight");
    expect(lmbq_pack_signs(out.data(), 0, 1, 1, 1, 1, 1, packed) == LMBQ_INVALID, "refuses no outputs");

    Case strided;
    strided.sh = 2, strided.skip = SKIP_NONE;
    const Data s = make(strided);
    const Layer other = create(strided, s, LMBQ_ISA_PORTABLE);
    expect(!lmbq_layer_has_gradients(other.get()), "strides have none");
    lmbq_backward strided_call = describe(strided, s, bits, LMBQ_SURROGATE_STE, false);
    strided_call.grad_out = out.data(), strided_call.grad_x = out.data();
    expect(lmbq_layer_backward(other.get(), &strided_call, 1, 7, 9, 1) == LMBQ_INVALID, "refuses them");
}

}  // namespace

int main() {
    backward();
    not_finite();
    refusals();
    return report("backward");
}
