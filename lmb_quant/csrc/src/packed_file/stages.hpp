// SPDX-License-Identifier: Apache-2.0
// The stages of a packed file: docs/bit_layout.md, "Stages".
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lmb_quant.h"
#include "packed_file/layers.hpp"

namespace lmbq {

struct StoredStage {
    // Reads stage `number`, counted from 1, that works on a value of `channels`. Throws Error.
    StoredStage(int number, const Json::Value& value, int channels, const std::map<std::string, Json::Value>& layers,
                Tensors& tensors);
    StoredStage(const StoredStage&) = delete;
    StoredStage& operator=(const StoredStage&) = delete;

    lmbq_stage_desc desc{};  // its arrays are the file's bytes, or here
    std::string layer_name;  // BINARY

private:
    void read_conv(const Json::Value& value, const std::string& place, int channels, Tensors& tensors);
    void read_act(const Json::Value& value, const std::string& place, int64_t outputs, Tensors& tensors);

    std::unique_ptr<StoredLayer> layer_;
    std::vector<float> weight_, bias_, slope_, gamma_, zeta_;
};

// The channels of the image that the first of these stages reads. Throws Error.
int image_channels(const std::vector<Json::Value>& stages, const std::map<std::string, Json::Value>& layers);

}  // namespace lmbq
