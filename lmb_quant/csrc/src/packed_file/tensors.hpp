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
    explicit Tensors(const Safetensors& file) : file_(file) {}

    // The values of a tensor of this shape and type, which then has its place. Throws Error.
    std::vector<float> floats(const std::string& name, const std::vector<int64_t>& shape);
    const uint8_t* bytes(const std::string& name, const std::vector<int64_t>& shape);

    int64_t length(const std::string& name) const;  // of one of one dimension, else -1
    void check_all_used() const;                    // throws Error at one that has no place

private:
    const StoredTensor& take(const std::string& name, const char* dtype, const std::vector<int64_t>& shape);
    const Safetensors& file_;
    std::set<std::string> used_;
};

}  // namespace lmbq
