// SPDX-License-Identifier: Apache-2.0
// The container of a packed file: named tensors and text (https://github.com/huggingface/safetensors), of strangers.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lmbq {

struct StoredTensor {
    const char* dtype;  // PyTorch's name, as torch.float32
    std::vector<int64_t> shape;
    const uint8_t* data;  // in the file's bytes: of any alignment
    size_t bytes;
};

struct Safetensors {
    // Checks that the tensors fill the file without a gap or an overlap. The bytes must outlive the object. Throws
    // Error.
    Safetensors(const uint8_t* bytes, size_t size);

    std::map<std::string, StoredTensor> tensors;
    std::map<std::string, std::string> metadata;
};

}  // namespace lmbq
