// SPDX-License-Identifier: Apache-2.0
#include "packed_file/stages.hpp"

#include <cmath>

#include "network.hpp"
#include "packed_file/acts.hpp"

namespace lmbq {
namespace {

constexpr int64_t kMaxUpscale = 4;

constexpr std::initializer_list<const char*> kModes = {"bilinear", "bicubic"};  // in the order of lmbq_upscale_mode
constexpr std::initializer_list<const char*> kConvKeys = {"kind",   "layer", "in_channels", "out_channels", "kernel_size",
                                                          "groups", "bias",  "act",         "skip"};

// The kind alone: which other keys are allowed depends on it.
std::string kind_of(const Json::Value& value, const std::string& place) {
    for (const auto& [key, kind] : members_of(value, place))
        if (key == "kind" && kind.kind() == Json::STRING) return kind.string();
    throw Error(LMBQ_BAD_FILE, place + ": kind: a word is missing");
}

using Layers = std::map<std::string, Json::Value>;

const Layers::value_type& layer_of(const Json::Value& stage, const std::string& place, const Layers& layers) {
    const Fields fields(stage, place, {"kind", "layer"});
    const auto found = layers.find(fields.word("layer"));
    if (found == layers.end()) fields.refuse("layer", "Allowed: a name in layers");
    return *found;
}

float real(const Fields& fields, const char* key) {
    const float value = (float)fields.number(key);
    if (!std::isfinite(value)) fields.refuse(key, "Allowed: what float32 holds");
    return value;
}

}  // namespace

StoredStage::StoredStage(int number, const Json::Value& value, int channels,
                         const std::map<std::string, Json::Value>& layers, Tensors& tensors) {
    const std::string place = "stage " + std::to_string(number), kind = kind_of(value, place);
    desc.struct_size = sizeof desc;
    if (kind == "range") {
        const Fields fields(value, place, {"kind", "offset", "gain"});
        desc.kind = LMBQ_STAGE_RANGE;
        desc.offset = real(fields, "offset");
        desc.gain = real(fields, "gain");
    } else if (kind == "conv") {
        read_conv(value, place, channels, tensors);
    } else if (kind == "binary") {
        const auto& [name, config] = layer_of(value, place, layers);
        layer_name = name;
        layer_ = std::make_unique<StoredLayer>(name, config, tensors);
        desc.kind = LMBQ_STAGE_BINARY;
        desc.layer = &layer_->desc;
        desc.layer_skip = layer_->skip;
    } else if (kind == "act") {
        const Fields fields(value, place, {"kind", "act"});
        desc.kind = LMBQ_STAGE_ACT;
        read_act(fields.at("act"), place, channels, tensors);
    } else if (kind == "add") {
        const Fields fields(value, place, {"kind", "value", "alpha"});
        desc.kind = LMBQ_STAGE_ADD;
        desc.other = (int32_t)fields.integer("value", 0, kStages);
        desc.alpha = real(fields, "alpha");
    } else if (kind == "shuffle") {
        const Fields fields(value, place, {"kind", "upscale"});
        desc.kind = LMBQ_STAGE_SHUFFLE;
        desc.upscale = (int32_t)fields.integer("upscale", 2, kMaxUpscale);
    } else if (kind == "add_upscaled") {
        const Fields fields(value, place, {"kind", "upscale", "mode", "alpha"});
        desc.kind = LMBQ_STAGE_ADD_UPSCALED;
        desc.upscale = (int32_t)fields.integer("upscale", 2, kMaxUpscale);
        desc.mode = fields.one_of("mode", kModes);
        desc.alpha = real(fields, "alpha");
    } else if (kind == "upscale") {
        const Fields fields(value, place, {"kind", "upscale", "mode"});
        desc.kind = LMBQ_STAGE_UPSCALE;
        desc.upscale = (int32_t)fields.integer("upscale", 2, kMaxUpscale);
        desc.mode = fields.one_of("mode", kModes);
    } else {
        throw Error(LMBQ_BAD_FILE,
                    place + ": kind: " + quoted(kind) +
                        " is not allowed. Allowed: range, conv, binary, act, add, shuffle, add_upscaled, upscale");
    }
}

void StoredStage::read_conv(const Json::Value& value, const std::string& place, int channels, Tensors& tensors) {
    const Fields fields(value, place, kConvKeys);
    const int64_t I = fields.integer("in_channels", 1, kStageChannels),
                  O = fields.integer("out_channels", 1, kStageChannels);
    if (I != channels)
        fields.refuse("in_channels", "Allowed: " + std::to_string(channels) + ", of the value before it");
    const int64_t groups = fields.integer("groups", 1, kStageChannels),
                  kernel = fields.integer("kernel_size", 1, kStageKernel);
    if (I % groups || O % groups) fields.refuse("groups", "Allowed: a divisor of both channel counts");
    const bool depthwise = groups > 1 && groups == I && groups == O;
    desc.kind = depthwise ? LMBQ_STAGE_DEPTHWISE : LMBQ_STAGE_CONV;
    desc.out_channels = (int32_t)O;
    desc.groups = depthwise ? 1 : (int32_t)groups;
    desc.kernel = (int32_t)kernel;
    desc.skip = fields.flag("skip");
    const std::string name = fields.word("layer"), prefix = name.empty() ? "" : name + ".";
    weight_ = tensors.weight(prefix + "weight", {O, I / groups, kernel, kernel});
    desc.weight = weight_.data();
    desc.weight_count = weight_.size();
    if (fields.flag("bias")) {
        bias_ = tensors.floats(prefix + "bias", {O});
        desc.bias = bias_.data();
    }
    read_act(fields.at("act"), place, O, tensors);
}

// Each value of the function is a number, or the name of a tensor.
void StoredStage::read_act(const Json::Value& value, const std::string& place, int64_t outputs, Tensors& tensors) {
    const Fields fields(value, place + ": act", {"kind", "slope", "gamma", "zeta"});
    const NamedAct& act = named_act(fields, "kind");
    auto read = [&](const char* key, bool wanted, bool may_share, std::vector<float>& to) -> const float* {
        if (!wanted) {
            if (fields.find(key)) fields.refuse(key, "Allowed: with a function that has it");
            return nullptr;
        }
        if (fields.at(key).kind() == Json::STRING) {
            const std::string name = fields.word(key);
            const bool one = may_share && tensors.length(name) == 1;
            to = tensors.floats(name, {one ? 1 : outputs});
        } else {
            to = {real(fields, key)};
            if (!may_share && outputs != 1) fields.refuse(key, "Allowed: the name of a tensor");
        }
        return to.data();
    };
    desc.act = act.code;
    desc.slope = read("slope", act.needs_slope, act.slopes_fit(1, outputs), slope_);
    desc.gamma = read("gamma", act.needs_shifts, false, gamma_);
    desc.zeta = read("zeta", act.needs_shifts, false, zeta_);
    desc.slope_count = (int32_t)slope_.size();
}

int image_channels(const std::vector<Json::Value>& stages, const std::map<std::string, Json::Value>& layers) {
    // No stage before the first convolution, real or binary, changes the channels.
    for (size_t i = 0; i < stages.size(); i++) {
        const std::string place = "stage " + std::to_string(i + 1);
        const std::string kind = kind_of(stages[i], place);
        if (kind == "binary") {
            const auto& [name, config] = layer_of(stages[i], place, layers);
            return stored_inputs(name, config);
        }
        if (kind == "conv")
            return (int)Fields(stages[i], place, kConvKeys).integer("in_channels", 1, kStageChannels);
    }
    throw Error(LMBQ_BAD_FILE, "stages: no convolution says the image's channels");
}

}  // namespace lmbq
