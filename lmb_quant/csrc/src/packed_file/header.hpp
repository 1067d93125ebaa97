// SPDX-License-Identifier: Apache-2.0
// What a packed file says beside its tensors: docs/bit_layout.md, "The file".
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "packed_file/json.hpp"
#include "packed_file/safetensors.hpp"

namespace lmbq {

class PackedHeader {
public:
    // Checks the header and the checksum over all of the file. Throws Error.
    explicit PackedHeader(const Safetensors& file);

    std::map<std::string, Json::Value> layers;
    std::vector<Json::Value> stages;
    std::set<std::string> int8;  // weights that are stored as int8 values and scales

private:
    std::unique_ptr<Json> json_;
};

}  // namespace lmbq
