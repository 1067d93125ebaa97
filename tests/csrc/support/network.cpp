// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <cmath>

namespace lmbq_test {
namespace {

// Sums of real convolutions are fused where the instruction set has it.
float multiply_add(float a, float b, float c, int isa) { return isa == LMBQ_ISA_PORTABLE ? a * b + c : std::fmaf(a, b, c); }

float activate(const lmbq_stage_desc& d, float v, int o) {
    const float slope = d.slope ? d.slope[d.slope_count == 1 ? 0 : o] : 0;
    switch (d.act) {
        case LMBQ_ACT_RELU: return v < 0 ? 0 : v;
        case LMBQ_ACT_LEAKY:
        case LMBQ_ACT_PRELU: return v > 0 ? v : v * slope;
        case LMBQ_ACT_RPRELU: return (v > d.gamma[o] ? v - d.gamma[o] : slope * (v - d.gamma[o])) + d.zeta[o];
        case LMBQ_ACT_HARDTANH: return v < -1 ? -1 : v > 1 ? 1 : v;
        default: return v;
    }
}

// Values as 127ths of the largest of them, and what their unit is.
float to_int8(const float* v, int n, std::vector<int>& out) {
    float largest = 0;
    for (int i = 0; i < n; i++) {
        if (!std::isfinite(v[i])) return NAN;
        largest = std::max(largest, std::fabs(v[i]));
    }
    out.assign((size_t)n, 0);
    if (!(largest > 1e-30f)) return 0;
    for (int i = 0; i < n; i++) out[(size_t)i] = (int)std::nearbyint(v[i] * (127 / largest));
    return largest / 127;
}

Image convolved_int8(const lmbq_stage_desc& d, const Image& x) {
    Image y(x.h, x.w, d.out_channels);
    for (int o = 0; o < y.c; o++) {
        std::vector<int> weights, values;
        const float weight = to_int8(d.weight + o * x.c, x.c, weights);
        for (int p = 0; p < x.h * x.w; p++) {
            const float value = to_int8(&x.v[(size_t)(p * x.c)], x.c, values);
            int sum = 0;
            for (int i = 0; i < x.c && !std::isnan(value + weight); i++) sum += values[(size_t)i] * weights[(size_t)i];
            const float v = activate(d, (float)sum * value * weight + (d.bias ? d.bias[o] : 0), o);
            y.v[(size_t)(p * y.c + o)] = d.skip ? v + x.v[(size_t)(p * x.c + o)] : v;
        }
    }
    return y;
}

Image convolved(const lmbq_stage_desc& d, const Image& x, int isa) {
    const bool depthwise = d.kind == LMBQ_STAGE_DEPTHWISE;
    const int O = depthwise ? x.c : d.out_channels, groups = depthwise ? x.c : d.groups, I = x.c / groups, k = d.kernel;
    Image y(x.h, x.w, O);
    for (int row = 0; row < x.h; row++)
        for (int col = 0; col < x.w; col++)
            for (int o = 0; o < O; o++) {
                float sum = 0;
                for (int ky = 0; ky < k; ky++)
                    for (int kx = 0; kx < k; kx++)
                        for (int i = 0; i < I; i++) {
                            const int r = row + ky - k / 2, c = col + kx - k / 2;
                            const bool inside = r >= 0 && r < x.h && c >= 0 && c < x.w;
                            const float v = inside ? x.at(r, c, o / (O / groups) * I + i) : 0;
                            sum = multiply_add(v, d.weight[((o * I + i) * k + ky) * k + kx], sum, isa);
                        }
                const float v = activate(d, sum + (d.bias ? d.bias[o] : 0), o);
                y.at(row, col, o) = d.skip ? v + x.at(row, col, o) : v;
            }
    return y;
}

double cubic(double d) {
    d = std::fabs(d);
    if (d <= 1) return (1.25 * d - 2.25) * d * d + 1;
    return d < 2 ? ((-0.75 * d + 3.75) * d - 6) * d + 3 : 0;
}

// Weights of the pixels -2 to 2 around a place between two pixels.
std::vector<float> weights(int mode, int upscale, int place) {
    const double at = (place + 0.5) / upscale - 0.5;
    std::vector<float> found;
    for (int t = -2; t <= 2; t++)
        found.push_back((float)(mode == LMBQ_BICUBIC ? cubic(at - t) : std::max(0.0, 1 - std::fabs(at - t))));
    return found;
}

float sum_of(const float (&v)[5], const std::vector<float>& w, bool fused) {
    if (fused) {
        const int f = w[0] == 0;
        const float two = std::fmaf(v[f], w[(size_t)f], v[f + 1] * w[(size_t)f + 1]);
        return std::fmaf(v[f + 3], w[(size_t)f + 3], std::fmaf(v[f + 2], w[(size_t)f + 2], two));
    }
    float sum = v[0] * w[0];
    for (int t = 1; t < 5; t++) sum += v[t] * w[(size_t)t];
    return sum;
}

Image upscaled(const Image& x, int mode, int r) {
    const bool fused = mode == LMBQ_BICUBIC && r != 3;  // then along the row first
    Image y(x.h * r, x.w * r, x.c);
    auto inside = [](int i, int n) { return std::max(0, std::min(n - 1, i)); };
    for (int row = 0; row < y.h; row++)
        for (int col = 0; col < y.w; col++)
            for (int c = 0; c < x.c; c++) {
                const std::vector<float> wy = weights(mode, r, row % r), wx = weights(mode, r, col % r);
                float outer[5];
                for (int i = 0; i < 5; i++) {
                    float inner[5];
                    for (int j = 0; j < 5; j++) {
                        const int dy = (fused ? i : j) - 2, dx = (fused ? j : i) - 2;
                        inner[j] = x.at(inside(row / r + dy, x.h), inside(col / r + dx, x.w), c);
                    }
                    outer[i] = sum_of(inner, fused ? wx : wy, fused);
                }
                y.at(row, col, c) = sum_of(outer, fused ? wy : wx, fused);
            }
    return y;
}

Image shuffled(const Image& x, int r) {
    Image y(x.h * r, x.w * r, x.c / (r * r));
    for (int row = 0; row < y.h; row++)
        for (int col = 0; col < y.w; col++)
            for (int c = 0; c < y.c; c++) y.at(row, col, c) = x.at(row / r, col / r, (c * r + row % r) * r + col % r);
    return y;
}

Image layered(const lmbq_stage_desc& d, const Image& x, int isa) {
    lmbq_layer_desc s = *d.layer;
    s.isa = isa;
    lmbq_layer* layer = nullptr;
    Image y(x.h, x.w, s.out_channels);
    const bool ok = lmbq_layer_create(&s, &layer) == LMBQ_OK &&
                    lmbq_layer_run(layer, x.v.data(), d.layer_skip ? x.v.data() : nullptr, y.v.data(), 1, x.h, x.w, 1) == LMBQ_OK;
    expect(ok, "a layer of its own");
    lmbq_layer_destroy(layer);
    return y;
}

}  // namespace

Image random_image(int h, int w, int c) {
    Image image(h, w, c);
    for (float& v : image.v) v = (float)pick(0, 255) / 255.0f;
    return image;
}

std::vector<float> planes(const Image& image) {
    std::vector<float> all;
    for (int c = 0; c < image.c; c++)
        for (int y = 0; y < image.h; y++)
            for (int x = 0; x < image.w; x++) all.push_back(image.at(y, x, c));
    return all;
}

lmbq_stage_desc& Network::push(int kind) {
    lmbq_stage_desc d{};
    d.struct_size = sizeof d;
    d.kind = kind;
    d.groups = 1;
    stages.push_back(d);
    return stages.back();
}

const float* Network::reals(size_t n, float size) {
    floats_.emplace_back(n);
    for (float& v : floats_.back()) v = real() * size;
    return floats_.back().data();
}

void Network::set_act(lmbq_stage_desc& d, int act, int outputs) {
    d.act = act;
    const size_t n = (size_t)outputs;
    d.slope_count = act == LMBQ_ACT_LEAKY || (act == LMBQ_ACT_PRELU && rng() % 2) ? 1 : outputs;
    if (act == LMBQ_ACT_LEAKY || act == LMBQ_ACT_PRELU || act == LMBQ_ACT_RPRELU) d.slope = reals(n);
    if (act == LMBQ_ACT_RPRELU) d.gamma = reals(n), d.zeta = reals(n);
}

void Network::range(float offset, float gain) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_RANGE);
    d.offset = offset, d.gain = gain;
}

void Network::conv(int outputs, int kernel, int act, bool skip, int groups) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_CONV);
    d.out_channels = outputs, d.kernel = kernel, d.skip = skip, d.groups = groups;
    d.weight_count = (uint64_t)outputs * (uint64_t)(now_ / groups) * (uint64_t)(kernel * kernel);
    d.weight = reals((size_t)d.weight_count, 1 / std::sqrt((float)(now_ / groups * kernel * kernel)));
    d.bias = rng() % 4 ? reals((size_t)outputs, 0.1f) : nullptr;
    set_act(d, act, outputs);
    now_ = outputs;
}

void Network::int8_conv(int outputs, int act, bool skip) {
    conv(outputs, 1, act, skip);
    stages.back().int8 = 1;
}

void Network::depthwise(int kernel, int act, bool skip) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_DEPTHWISE);
    d.kernel = kernel, d.skip = skip;
    d.weight_count = (uint64_t)now_ * (uint64_t)(kernel * kernel);
    d.weight = reals((size_t)d.weight_count, 0.3f);
    d.bias = rng() % 4 ? reals((size_t)now_, 0.1f) : nullptr;
    set_act(d, act, now_);
}

void Network::binary(const Case& given) {
    cases_.push_back(given);
    Case& c = cases_.back();
    c.n = 1, c.h = c.w = 1;
    c.special_parameters = false;
    data_.push_back(make(c));
    layers_.push_back(data_.back().describe(c, LMBQ_ISA_AUTO));
    lmbq_stage_desc& d = push(LMBQ_STAGE_BINARY);
    d.layer = &layers_.back();
    d.layer_skip = c.I == c.O && c.skip != SKIP_NONE;
    now_ = c.O;
}

void Network::act(int act) { set_act(push(LMBQ_STAGE_ACT), act, now_); }

void Network::add(int other, float alpha) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_ADD);
    d.other = other, d.alpha = alpha;
}

void Network::shuffle(int upscale) {
    push(LMBQ_STAGE_SHUFFLE).upscale = upscale;
    now_ /= upscale * upscale;
}

void Network::add_upscaled(int upscale, int mode, float alpha) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_ADD_UPSCALED);
    d.upscale = upscale, d.mode = mode, d.alpha = alpha;
}

void Network::upscale(int upscale, int mode) {
    lmbq_stage_desc& d = push(LMBQ_STAGE_UPSCALE);
    d.upscale = upscale, d.mode = mode;
}

NetworkPointer Network::create(int isa) const {
    lmbq_network* network = nullptr;
    expect(lmbq_network_create(stages.data(), (int)stages.size(), channels_, isa, &network) == LMBQ_OK, "create " + text());
    return NetworkPointer(network);
}

Image Network::run(const Image& image, int isa) const {
    std::vector<Image> values{image};
    for (const lmbq_stage_desc& d : stages) {
        Image y = values.back();
        switch (d.kind) {
            case LMBQ_STAGE_RANGE:
                for (float& v : y.v) v = (v + d.offset) * d.gain;
                break;
            case LMBQ_STAGE_CONV:
            case LMBQ_STAGE_DEPTHWISE: y = d.int8 ? convolved_int8(d, y) : convolved(d, y, isa); break;
            case LMBQ_STAGE_BINARY: y = layered(d, y, isa); break;
            case LMBQ_STAGE_ACT:
                for (size_t i = 0; i < y.v.size(); i++) y.v[i] = activate(d, y.v[i], (int)(i % (size_t)y.c));
                break;
            case LMBQ_STAGE_ADD:
                for (size_t i = 0; i < y.v.size(); i++) y.v[i] = values[(size_t)d.other].v[i] + d.alpha * y.v[i];
                break;
            case LMBQ_STAGE_SHUFFLE: y = shuffled(y, d.upscale); break;
            case LMBQ_STAGE_ADD_UPSCALED: {
                const Image base = upscaled(image, d.mode, d.upscale);
                for (size_t i = 0; i < y.v.size(); i++) y.v[i] = base.v[i] + d.alpha * y.v[i];
                break;
            }
            default: y = upscaled(y, d.mode, d.upscale);
        }
        values.push_back(y);
    }
    return values.back();
}

std::string Network::text() const {
    std::string all = std::to_string(channels_) + " channels:";
    for (const lmbq_stage_desc& d : stages)
        all += " " + std::to_string(d.kind) + "(" + std::to_string(d.out_channels) + " k" + std::to_string(d.kernel) + " a" +
               std::to_string(d.act) + (d.int8 ? " int8" : "") + " s" + std::to_string(d.skip + 2 * d.layer_skip) + " v" + std::to_string(d.other) +
               " u" + std::to_string(d.upscale) + ")";
    return all;
}

Network random_network() {
    auto any_act = [] {
        return one_of({LMBQ_ACT_NONE, LMBQ_ACT_RELU, LMBQ_ACT_LEAKY, LMBQ_ACT_PRELU, LMBQ_ACT_RPRELU, LMBQ_ACT_HARDTANH});
    };
    Network net(one_of({1, 3, 3, 4}));
    const int features = one_of({1, 3, 7, 8, 15, 16, 17, 24, 33, 63, 64}), r = pick(2, 4);
    const bool at_hr = rng() % 4 == 0;
    if (at_hr) net.upscale(r, pick(0, 1));
    const int base = net.value();
    if (rng() % 3) net.range(-0.5f, 4.0f);
    net.conv(features, one_of({1, 3, 3, 5}), any_act(), false);
    for (int blocks = pick(0, 4); blocks > 0; blocks--) {
        const int x = net.value(), before = net.now();
        switch (rng() % 9) {
            case 0: net.depthwise(one_of({1, 3, 3, 5}), any_act(), rng() % 2); break;
            case 1: net.conv(features, one_of({1, 1, 3}), any_act(), net.now() == features && rng() % 2); break;
            case 2: net.act(any_act()); break;
            case 4: net.int8_conv(features, any_act(), net.now() == features && rng() % 2); break;
            case 3:
                for (const int groups : {3, 8})
                    if (features % groups == 0) net.conv(features, one_of({1, 3}), any_act(), rng() % 2, groups);
                break;
            default:
                for (int layers = pick(1, 3); layers > 0; layers--) {
                    Case c = random_case();
                    const int k = one_of({1, 3, 3, 5});
                    c.groups = c.sh = c.sw = c.dh = c.dw = 1;
                    c.set_kernel(k);
                    c.factor = rng() % 4 == 0;
                    c.window = 2 * pick(0, 4) + 1;
                    c.set_channels(net.now(), features);
                    net.binary(c);
                }
        }
        if (net.now() == before && net.value() > x && rng() % 3 == 0) net.add(x, one_of({1, 1, 0}) + 0.5f * (float)(rng() % 2));
    }
    if (at_hr) {
        net.conv(net.channels(), one_of({1, 3}), LMBQ_ACT_NONE, false);
        net.add(base, 0.25f);
    } else if (rng() % 8) {
        net.conv(net.channels() * r * r, one_of({1, 1, 3}), LMBQ_ACT_NONE, false);
        net.shuffle(r);
        if (rng() % 8) net.add_upscaled(r, pick(0, 1), 0.25f);
    }
    return net;
}

}  // namespace lmbq_test
