// SPDX-License-Identifier: Apache-2.0
#include "packed_file/layers.hpp"

#include "layer.hpp"
#include "packed_file/acts.hpp"

namespace lmbq {
namespace {

constexpr std::initializer_list<const char*> kKeys = {
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "threshold",   "window",
    "shift",       "gain",         "bias",        "act",    "act_on",  "slopes",   "skip",   "pixel_factor"};

Fields fields_of(const std::string& name, const Json::Value& config) { return {config, "layer " + quoted(name), kKeys}; }

std::vector<int64_t> sides(const Fields& config, const char* key, size_t count, int64_t low, int64_t high,
                           int64_t otherwise) {
    if (!config.find(key)) return std::vector<int64_t>(count, otherwise);
    std::vector<int64_t> values = config.integers(key, low, high);
    if (values.size() != count) config.refuse(key, "Allowed: " + std::to_string(count) + " numbers");
    return values;
}

}  // namespace

int stored_inputs(const std::string& name, const Json::Value& config) {
    return (int)fields_of(name, config).integer("in_channels", 1, kLayerChannels);
}

StoredLayer::StoredLayer(const std::string& name, const Json::Value& value, Tensors& tensors) {
    const Fields config = fields_of(name, value);
    const int64_t I = config.integer("in_channels", 1, kLayerChannels),
                  O = config.integer("out_channels", 1, kLayerChannels);
    const int64_t groups = config.integer("groups", 1, kLayerChannels, 1);
    if (I % groups || O % groups) config.refuse("groups", "Allowed: a divisor of both channel counts");
    config.at("kernel_size");
    const auto kernel = sides(config, "kernel_size", 2, 1, kLayerKernel, 1),
               stride = sides(config, "stride", 2, 1, kLayerStep, 1);
    const auto padding = sides(config, "padding", 4, 0, kLayerPadding, 0),
               dilation = sides(config, "dilation", 2, 1, kLayerStep, 1);

    const std::vector<const char*> thresholds = {"none", "channel", "local",
                                                 "global"};  // in the order of lmbq_threshold
    const int threshold = config.one_of("threshold", thresholds, LMBQ_THRESHOLD_NONE);
    const int64_t window = config.integer("window", 1, kLayerWindow, 1);
    const bool shift = config.flag("shift", false), gain = config.flag("gain", false);
    if (window % 2 == 0 || (window != 1 && threshold != LMBQ_THRESHOLD_LOCAL))
        config.refuse("window", "Allowed: odd, and 1 where the threshold is not local");
    if ((threshold == LMBQ_THRESHOLD_CHANNEL && !shift) || (threshold == LMBQ_THRESHOLD_NONE && shift))
        config.refuse("shift", "Allowed: with threshold channel true, with none false");
    if (gain && threshold != LMBQ_THRESHOLD_LOCAL && threshold != LMBQ_THRESHOLD_GLOBAL)
        config.refuse("gain", "Allowed: with thresholds local and global");

    const NamedAct& act = named_act(config, "act", true);
    const int64_t slopes = config.integer("slopes", 0, kLayerChannels, 0);
    if (!act.slopes_fit(slopes, O))
        config.refuse("slopes", "Allowed: with prelu 1 or out_channels, with rprelu out_channels, else 0");

    const bool keeps_size = stride[0] == 1 && stride[1] == 1 &&
                            padding[0] + padding[2] == dilation[0] * (kernel[0] - 1) &&
                            padding[1] + padding[3] == dilation[1] * (kernel[1] - 1);
    skip = config.flag("skip", false);
    if (skip && !(keeps_size && I == O)) config.refuse("skip", "Allowed: where input and output have one shape");
    const bool factor = config.flag("pixel_factor", false);
    if (factor && !keeps_size)
        config.refuse("pixel_factor", "Allowed: where the output has the input's height and width");

    desc.struct_size = sizeof desc;
    desc.in_channels = (int32_t)I, desc.out_channels = (int32_t)O, desc.groups = (int32_t)groups;
    desc.kernel_h = (int32_t)kernel[0], desc.kernel_w = (int32_t)kernel[1];
    desc.stride_h = (int32_t)stride[0], desc.stride_w = (int32_t)stride[1];
    desc.dilation_h = (int32_t)dilation[0], desc.dilation_w = (int32_t)dilation[1];
    desc.pad_top = (int32_t)padding[0], desc.pad_left = (int32_t)padding[1];
    desc.pad_bottom = (int32_t)padding[2], desc.pad_right = (int32_t)padding[3];
    desc.threshold = threshold, desc.window = (int32_t)window;
    desc.act = act.code, desc.slope_count = (int32_t)slopes;
    desc.act_on = config.one_of("act_on", {"branch", "sum"}, LMBQ_ACT_ON_BRANCH);

    const std::string prefix = name.empty() ? "" : name + ".";
    auto floats = [&](bool given, const char* part, int64_t count, std::vector<float>& to) -> const float* {
        if (!given) return nullptr;
        to = tensors.floats(prefix + part, {count});
        return to.data();
    };
    const int64_t row = kernel[0] * kernel[1] * ((I / groups + 7) / 8);
    desc.weight = tensors.bytes(prefix + "weight_packed", {O, row});
    desc.weight_bytes = (uint64_t)(O * row);
    desc.scale = floats(true, "weight_scale", O, scale_);
    desc.bias = floats(config.flag("bias", false), "bias", O, bias_);
    desc.thresholds = floats(shift, "threshold_shift", I, thresholds_);
    desc.gain = floats(gain, "threshold_gain", I, gain_);
    desc.slope = floats(act.needs_slope, "act_slope", slopes, slope_);
    desc.gamma = floats(act.needs_shifts, "act_gamma", O, gamma_);
    desc.zeta = floats(act.needs_shifts, "act_zeta", O, zeta_);
    desc.pixel_factor = floats(factor, "pixel_factor", I + 1, pixel_factor_);
}

}  // namespace lmbq
