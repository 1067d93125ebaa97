// SPDX-License-Identifier: Apache-2.0
// A binary layer as a packed file describes it: docs/bit_layout.md, "A packed layer".
#pragma once
#include <string>
#include <vector>

#include "packed_file/fields.hpp"
#include "packed_file/tensors.hpp"

namespace lmbq {

struct StoredLayer {
    // Reads the configuration and its tensors, whose names begin with the layer's. Throws Error.
    StoredLayer(const std::string& name, const Json::Value& config, Tensors& tensors);
    StoredLayer(const StoredLayer&) = delete;
    StoredLayer& operator=(const StoredLayer&) = delete;

    lmbq_layer_desc desc{};  // its arrays are the file's bytes, or here
    bool skip = false;

private:
    std::vector<float> scale_, bias_, thresholds_, gain_, slope_, gamma_, zeta_, pixel_factor_;
};

// The inputs of a layer, of which nothing else is read. Throws Error.
int stored_inputs(const std::string& name, const Json::Value& config);

}  // namespace lmbq
