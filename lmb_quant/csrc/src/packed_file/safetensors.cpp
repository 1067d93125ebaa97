// SPDX-License-Identifier: Apache-2.0
#include "packed_file/safetensors.hpp"

#include <algorithm>
#include <cstring>

#include "packed_file/fields.hpp"

namespace lmbq {
namespace {

struct Dtype {
    const char* name;
    const char* of_torch;
    uint64_t size;
};
const Dtype kDtypes[] = {{"U8", "torch.uint8", 1},      {"I8", "torch.int8", 1},     {"I32", "torch.int32", 4},
                         {"I64", "torch.int64", 8},     {"BOOL", "torch.bool", 1},   {"F16", "torch.float16", 2},
                         {"BF16", "torch.bfloat16", 2}, {"F32", "torch.float32", 4}, {"F64", "torch.float64", 8}};

const Dtype& dtype_of(const Fields& tensor) {
    const std::string name = tensor.word("dtype");
    for (const Dtype& dtype : kDtypes)
        if (name == dtype.name) return dtype;
    tensor.refuse("dtype", "Allowed: U8, I8, I32, I64, BOOL, F16, BF16, F32, F64");
}

// Bytes of a tensor, or SIZE_MAX where they are more.
uint64_t bytes_of(const std::vector<int64_t>& shape, uint64_t each) {
    uint64_t bytes = each;
    for (const int64_t side : shape)
        if (__builtin_mul_overflow(bytes, (uint64_t)side, &bytes)) return UINT64_MAX;
    return bytes;
}

}  // namespace

Safetensors::Safetensors(const uint8_t* bytes, size_t size) {
    uint64_t length = 0;
    if (size >= 8)
        for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (size < 8 || length > std::min<uint64_t>(size - 8, Json::kMaxText))
        throw Error(LMBQ_BAD_FILE,
                    "it is not a safetensors file, or it is truncated (" + std::to_string(size) + " bytes)");
    const uint8_t* data = bytes + 8 + length;
    const uint64_t data_size = size - 8 - length;
    const Json json({reinterpret_cast<const char*>(bytes) + 8, (size_t)length}, "safetensors header");

    std::vector<std::pair<uint64_t, uint64_t>> spans;
    for (const auto& [name, value] : members_of(json.root(), "safetensors header")) {
        if (name == "__metadata__") {
            for (const auto& [key, text] : members_of(value, "__metadata__")) {
                if (text.kind() != Json::STRING)
                    throw Error(LMBQ_BAD_FILE, "__metadata__: " + quoted(key) + " is no text");
                metadata.emplace(key, text.string());
            }
            continue;
        }
        const Fields fields(value, "tensor " + quoted(name), {"dtype", "shape", "data_offsets"});
        const Dtype& dtype = dtype_of(fields);
        std::vector<int64_t> shape = fields.integers("shape", 0, INT64_MAX);
        const std::vector<int64_t> offsets = fields.integers("data_offsets", 0, INT64_MAX);
        const uint64_t each = bytes_of(shape, dtype.size);
        if (offsets.size() != 2 || offsets[1] < offsets[0] || (uint64_t)offsets[1] > data_size)
            fields.refuse("data_offsets",
                          "Allowed: begin and end within the data, " + std::to_string(data_size) + " bytes");
        const uint64_t begin = (uint64_t)offsets[0], end = (uint64_t)offsets[1];
        if (end - begin != each) fields.refuse("data_offsets", "Allowed: as many bytes as the shape has");
        spans.emplace_back(begin, end);
        tensors.emplace(name, StoredTensor{dtype.of_torch, std::move(shape), data + begin, (size_t)each});
    }
    std::sort(spans.begin(), spans.end());
    uint64_t at = 0;
    for (const auto& [begin, end] : spans) {
        if (begin != at)
            throw Error(LMBQ_BAD_FILE, "tensors overlap or leave a gap at byte " + std::to_string(at) + " of the data");
        at = end;
    }
    if (at != data_size)
        throw Error(LMBQ_BAD_FILE, "the tensors end at byte " + std::to_string(at) + " of " +
                                       std::to_string(data_size) + " bytes of data");
}

}  // namespace lmbq
