// SPDX-License-Identifier: Apache-2.0
#include "packed_file/tensors.hpp"

#include <cstring>

#include "error.hpp"
#include "packed_file/json.hpp"

namespace lmbq {
namespace {

std::string described(const char* dtype, const std::vector<int64_t>& shape) {
    std::string out = std::string(dtype) + " (";
    for (size_t i = 0; i < shape.size(); i++) out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + ")";
}

}  // namespace

const StoredTensor& Tensors::take(const std::string& name, const char* dtype, const std::vector<int64_t>& shape) {
    if (int8_.count(name))
        throw Error(LMBQ_BAD_FILE, "encoded: tensor " + quoted(name) + " is no weight of a real convolution");
    const auto found = file_.tensors.find(name);
    if (found == file_.tensors.end()) throw Error(LMBQ_BAD_FILE, "tensor " + quoted(name) + " is missing");
    const StoredTensor& tensor = found->second;
    if (std::strcmp(tensor.dtype, dtype) != 0 || tensor.shape != shape)
        throw Error(LMBQ_BAD_FILE, "tensor " + quoted(name) + ": " + described(tensor.dtype, tensor.shape) +
                                       " is not allowed. Allowed: " + described(dtype, shape));
    used_.insert(name);
    return tensor;
}

std::vector<float> Tensors::floats(const std::string& name, const std::vector<int64_t>& shape) {
    const StoredTensor& tensor = take(name, "torch.float32", shape);
    std::vector<float> values(tensor.bytes / sizeof(float));
    if (!values.empty()) std::memcpy(values.data(), tensor.data, tensor.bytes);
    return values;
}

std::vector<float> Tensors::weight(const std::string& name, const std::vector<int64_t>& shape) {
    if (!int8_.count(name)) return floats(name, shape);
    if (file_.tensors.count(name)) throw Error(LMBQ_BAD_FILE, "tensor " + quoted(name) + " has no place beside its int8 form");
    const StoredTensor& stored = take(name + ".qdata", "torch.int8", shape);
    const StoredTensor& scales = take(name + ".scale", "torch.float32", {shape[0]});
    std::vector<float> values(stored.bytes);
    const size_t each = values.size() / (size_t)shape[0];
    for (size_t i = 0; i < values.size(); i++) {
        float scale;
        std::memcpy(&scale, scales.data + i / each * sizeof scale, sizeof scale);
        values[i] = (float)(int8_t)stored.data[i] * scale;
    }
    used_.insert(name);
    return values;
}

const uint8_t* Tensors::bytes(const std::string& name, const std::vector<int64_t>& shape) {
    return take(name, "torch.uint8", shape).data;
}

int64_t Tensors::length(const std::string& name) const {
    const auto found = file_.tensors.find(name);
    return found != file_.tensors.end() && found->second.shape.size() == 1 ? found->second.shape[0] : -1;
}

void Tensors::check_all_used() const {
    for (const std::string& name : int8_)
        if (!used_.count(name)) throw Error(LMBQ_BAD_FILE, "encoded: tensor " + quoted(name) + " has no place in the network");
    for (const auto& entry : file_.tensors)
        if (!used_.count(entry.first))
            throw Error(LMBQ_BAD_FILE, "tensor " + quoted(entry.first) + " has no place in the network");
}

}  // namespace lmbq
