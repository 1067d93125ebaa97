// SPDX-License-Identifier: Apache-2.0
#include "layer.hpp"

#include <algorithm>
#include <cstring>

#include "error.hpp"
#include "workspace.hpp"

namespace lmbq {
namespace {

int needs_of(int act) {
    switch (kernel_act(act)) {
#define LMBQ_CASE(NAME, NEEDS) \
    case LMBQ_ACT_##NAME: return NEEDS;
        LMBQ_ACTS(LMBQ_CASE)
#undef LMBQ_CASE
    }
    throw Error(LMBQ_INVALID, "act is unknown");
}

constexpr float kNothing = -0.0f;  // the one number that adds nothing to either zero

bool in(int v, int lo, int hi) { return v >= lo && v <= hi; }

void check(const lmbq_layer_desc& d) {
    require(in(d.in_channels, 1, kLayerChannels) && in(d.out_channels, 1, kLayerChannels),
            "in_channels and out_channels must be in 1..65536");
    require(d.groups >= 1 && d.in_channels % d.groups == 0 && d.out_channels % d.groups == 0,
            "groups must divide in_channels and out_channels");
    require(in(d.kernel_h, 1, kLayerKernel) && in(d.kernel_w, 1, kLayerKernel), "kernel sizes must be in 1..31");
    require(in(d.stride_h, 1, kLayerStep) && in(d.stride_w, 1, kLayerStep), "strides must be in 1..1024");
    require(in(d.dilation_h, 1, kLayerStep) && in(d.dilation_w, 1, kLayerStep), "dilations must be in 1..1024");
    require(in(d.pad_top, 0, kLayerPadding) && in(d.pad_left, 0, kLayerPadding) && in(d.pad_bottom, 0, kLayerPadding) &&
                in(d.pad_right, 0, kLayerPadding),
            "paddings must be in 0..16384");
    require(d.weight && d.scale, "weight and scale must be given");
    const uint64_t per = (uint64_t)(d.in_channels / d.groups + 7) / 8;
    require(d.weight_bytes == (uint64_t)d.out_channels * d.kernel_h * d.kernel_w * per,
            "weight_bytes must be out_channels * kernel_h * kernel_w * ceil(in_channels / groups / 8)");
    const int tail = d.in_channels / d.groups % 8;
    if (tail)
        for (uint64_t i = per - 1; i < d.weight_bytes; i += per)
            require(d.weight[i] >> tail == 0, "weight: the tail bits of a tap must be 0");
    require(in(d.act_on, LMBQ_ACT_ON_BRANCH, LMBQ_ACT_ON_SUM), "act_on is unknown");
    check_act(d.act, d.slope, d.slope_count, d.gamma, d.zeta, d.out_channels);
    if (d.pixel_factor)
        require(d.stride_h == 1 && d.stride_w == 1 && d.pad_top + d.pad_bottom == (d.kernel_h - 1) * d.dilation_h &&
                    d.pad_left + d.pad_right == (d.kernel_w - 1) * d.dilation_w,
                "a pixel factor needs outputs of the input's height and width");
}

// As many values as the layer has outputs: those given, or the one that is given for all of them.
void spread(const float* given, bool one, size_t outputs, float* to) {
    for (size_t o = 0; o < outputs; o++) to[o] = given[one ? 0 : o];
}

}  // namespace

int kernel_act(int act) { return act == LMBQ_ACT_LEAKY ? LMBQ_ACT_PRELU : act; }

void check_act(int act, const float* slope, int slope_count, const float* gamma, const float* zeta, int outputs) {
    const int needs = needs_of(act);
    const bool one = slope_count == 1, each = slope_count == outputs;
    if (needs & ACT_NEEDS_SLOPE)
        require(slope && (act == LMBQ_ACT_LEAKY ? one : act == LMBQ_ACT_PRELU ? one || each : each),
                "leaky needs one slope, prelu 1 or out_channels, rprelu out_channels");
    if (needs & ACT_NEEDS_SHIFTS) require(gamma && zeta, "rprelu needs gamma and zeta");
}

void fill_act(const OutputChannels& to, int act, const float* slope, int slope_count, const float* gamma,
              const float* zeta, int outputs) {
    const int needs = needs_of(act);
    if (needs & ACT_NEEDS_SLOPE) spread(slope, slope_count == 1, (size_t)outputs, to.slope);
    if (needs & ACT_NEEDS_SHIFTS) {
        spread(gamma, false, (size_t)outputs, to.gamma);
        spread(zeta, false, (size_t)outputs, to.zeta);
    }
}

void Thresholding::set(const float* thresholds, const float* gains, int channels) {
    const bool mean = kind == TH_LOCAL || kind == TH_GLOBAL;
    require(in(kind, TH_NONE, TH_GLOBAL), "threshold is unknown");
    if (kind == TH_CHANNEL) require(thresholds, "channel thresholds must be given");
    if (kind == TH_LOCAL) require(window % 2 == 1 && in(window, 1, kLayerWindow), "window must be odd, in 1..255");
    require(!gains || mean, "gain is for local and global means");
    const size_t n = (size_t)channels;
    if (kind != TH_NONE && thresholds) t.assign(thresholds, thresholds + n);
    if (gains) gain.assign(gains, gains + n);
    if (mean && !(t.empty() && gain.empty())) {  // both or none: neither of these changes a bit
        if (t.empty()) t.assign(n, 0.0f);
        if (gain.empty()) gain.assign(n, 1.0f);
    }
}

Layer::Layer(const lmbq_layer_desc& d) {
    check(d);
    isa = find_isa(select_isa(d.isa));
    plan.in_channels = d.in_channels;
    plan.out_channels = d.out_channels;
    plan.out_pad = (d.out_channels + 63) / 64 * 64;
    plan.groups = d.groups;
    plan.kh = d.kernel_h, plan.kw = d.kernel_w;
    plan.sh = d.stride_h, plan.sw = d.stride_w;
    plan.dh = d.dilation_h, plan.dw = d.dilation_w;
    plan.act = kernel_act(d.act);
    plan.skip = d.act_on == LMBQ_ACT_ON_SUM ? SKIP_BEFORE_ACT : SKIP_AFTER_ACT;
    pad_top = d.pad_top, pad_left = d.pad_left, pad_bottom = d.pad_bottom, pad_right = d.pad_right;
    threshold.kind = d.threshold;
    threshold.window = d.threshold == LMBQ_THRESHOLD_LOCAL ? d.window : 1;
    threshold.set(d.thresholds, d.gain, d.in_channels);

    for (const ConvKernel* kernel : {isa->conv, isa->narrow_conv, &portable_conv})
        if (!conv && kernel && kernel->supports(plan)) conv = kernel;
    if (!conv) throw Error(LMBQ_INVALID, "more than 2^23 bits an output value");
    plan.unit = conv->unit(plan);
    segments_.resize((size_t)conv->build_segments(plan, nullptr));
    conv->build_segments(plan, segments_.data());
    plan.segments = segments_.data();
    plan.nsegments = (int)segments_.size();

    const size_t taps = (size_t)d.kernel_h * d.kernel_w, pad = (size_t)plan.out_pad, O = (size_t)d.out_channels;
    const size_t factors = d.pixel_factor ? (size_t)d.in_channels + 1 : 0;
    float* factor = nullptr;
    int32_t* pop = nullptr;
    char* weights = nullptr;
    auto lay_out = [&](char* base) {
        Carver c(base);
        weights = c.take<char>(conv->weight_bytes(plan));
        OutputChannels& to = plan.channels;
        for (float** values : {&to.scale, &to.bias, &to.slope, &to.gamma, &to.zeta}) *values = c.take<float>(pad);
        pop = c.take<int32_t>(taps * pad);
        factor = c.take<float>(factors);
        return c.used();
    };
    bytes = lay_out(nullptr);
    bits.assign(d.weight, d.weight + d.weight_bytes);
    nothing_.assign(pad, kNothing);
    memory_ = aligned_new(bytes);  // last: nothing after it may throw, or it would stay
    std::memset(memory_, 0, bytes);
    lay_out(static_cast<char*>(memory_));

    conv->pack_weights(plan, d.weight, weights);
    const OutputChannels& to = plan.channels;
    spread(d.scale, false, O, to.scale);
    spread(d.bias ? d.bias : &kNothing, !d.bias, O, to.bias);
    fill_act(to, d.act, d.slope, d.slope_count, d.gamma, d.zeta, d.out_channels);
    const size_t per = (size_t)(d.in_channels / d.groups + 7) / 8;
    for (size_t o = 0; o < O; o++)
        for (size_t t = 0; t < taps; t++)
            for (size_t b = 0; b < per; b++)
                pop[t * pad + o] += __builtin_popcount(d.weight[(o * taps + t) * per + b]);
    plan.weights = weights;
    plan.tap_pop = pop;
    if (factors) plan.pixel_factor = std::copy(d.pixel_factor, d.pixel_factor + factors, factor) - factors;
    sums = plan;
    sums.act = LMBQ_ACT_NONE;
    sums.channels.bias = nothing_.data();
    sums.pixel_factor = nullptr;
}

Layer::~Layer() { aligned_delete(memory_); }

Shape Layer::shape(int64_t h, int64_t w) const {
    require(h >= 1 && w >= 1 && h <= 1 << 24 && w <= 1 << 24, "height and width must be in 1..2^24");
    const int64_t eh = (int64_t)(plan.kh - 1) * plan.dh + 1, ew = (int64_t)(plan.kw - 1) * plan.dw + 1;
    const int64_t ph = h + pad_top + pad_bottom, pw = w + pad_left + pad_right;
    require(ph >= eh && pw >= ew, "the kernel is larger than the padded input");
    return {(int)h, (int)w, (int)((ph - eh) / plan.sh + 1), (int)((pw - ew) / plan.sw + 1)};
}

}  // namespace lmbq
