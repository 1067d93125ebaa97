// SPDX-License-Identifier: Apache-2.0
// The tensors of a packed file, each for one place in the network.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "packed_file/safetensors.hpp"

namespace lmbq {

class Tensors {
public:
    // int8: the weights that are stored in two parts, int8 values and a scale for each output channel.
    Tensors(const Safetensors& file, const std::set<std::string>& int8) : file_(file), int8_(int8) {}

    // The values of a tensor of this shape and type, which then has its place. Throws Error.
    std::vector<float> floats(const std::string& name, const std::vector<int64_t>& shape);
    std::vector<float> weight(const std::string& name, const std::vector<int64_t>& shape);  // of a real convolution
    const uint8_t* bytes(const std::string& name, const std::vector<int64_t>& shape);

    int64_t length(const std::string& name) const;  // of one of one dimension, else -1
    void check_all_used() const;                    // throws Error at one that has no place

private:
    const StoredTensor& take(const std::string& name, const char* dtype, const std::vector<int64_t>& shape);
    const Safetensors& file_;
    const std::set<std::string>& int8_;
    std::set<std::string> used_;
};

}  // namespace lmbq
