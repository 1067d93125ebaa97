// SPDX-License-Identifier: Apache-2.0
#include "packed.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "packed_file/json.hpp"
#include "packed_file/safetensors.hpp"
#include "packed_file/sha256.hpp"

namespace lmbq_test {

using lmbq::Json;

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    expect(!bytes.empty(), "can read " + path);
    return bytes;
}

std::vector<std::string> corpus() {
    std::vector<std::string> files;
    for (const char* name : {"srresnet", "spatial", "hybrid", "vdsr", "hybrid_int8"})
        files.push_back(read_file(std::string(LMBQ_CORPUS "/") + name + ".safetensors"));
    return files;
}

PackedFile::PackedFile(const std::string& file) {
    const lmbq::Safetensors parts(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    header = parts.metadata.at("lmb_quant");
    const size_t at = header.find(", \"sha256\": \"");
    header.erase(at, header.find('"', at + 13) + 1 - at);
    for (const auto& [name, t] : parts.tensors)
        tensors.push_back({name, t.dtype, t.shape, std::string(reinterpret_cast<const char*>(t.data), t.bytes)});
}

PackedFile& PackedFile::replace(const std::string& from, const std::string& to) {
    const size_t at = header.find(from);
    expect(at != std::string::npos, "the header has " + from);
    if (at != std::string::npos) header.replace(at, from.size(), to);
    return *this;
}

std::string container(const std::string& header, const std::string& data) {
    std::string out;
    for (int i = 0; i < 8; i++) out += (char)(header.size() >> 8 * i & 255);
    return out + header + data;
}

std::string PackedFile::joined() const {
    static const char* const kDtypes[][2] = {{"torch.uint8", "U8"}, {"torch.int8", "I8"}, {"torch.float32", "F32"}};
    std::string places, data, text = header;
    lmbq::Sha256 digest;
    try {
        Json(header, "header").root().dump(digest);
    } catch (const std::exception&) {
    }
    std::vector<Tensor> sorted = tensors;
    std::sort(sorted.begin(), sorted.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
    for (const Tensor& t : sorted) {
        std::string shape, stored = t.dtype;
        for (const int64_t side : t.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(side);
        for (const auto& dtype : kDtypes)
            if (t.dtype == dtype[0]) stored = dtype[1];
        digest.add("[\"" + t.name + "\", \"" + t.dtype + "\", [" + shape + "]]");
        digest.add(t.bytes);
        places += ", \"" + t.name + "\": {\"dtype\": \"" + stored + "\", \"shape\": [" + shape + "], \"data_offsets\": [" +
                  std::to_string(data.size()) + ", " + std::to_string(data.size() + t.bytes.size()) + "]}";
        data += t.bytes;
    }
    if (!text.empty() && text.back() == '}') text = text.substr(0, text.size() - 1) + ", \"sha256\": \"" + digest.hex() + "\"}";
    std::string escaped;
    for (const char c : text) {
        if (c == '"' || c == '\\') escaped += '\\';
        escaped += c;
    }
    return container("{\"__metadata__\": {\"lmb_quant\": \"" + escaped + "\"}" + places + "}", data);
}

NetworkPointer open_any(const std::string& bytes, const std::string& what) {
    const std::unique_ptr<char[]> copy(new char[std::max<size_t>(bytes.size(), 1)]);  // a sanitizer guards its end
    std::copy(bytes.begin(), bytes.end(), copy.get());
    lmbq_network* network = nullptr;
    const lmbq_status status = lmbq_network_open(copy.get(), bytes.size(), LMBQ_ISA_AUTO, &network);
    if (status == LMBQ_OK)
        expect(network != nullptr, "a network: " + what);
    else
        expect(status == LMBQ_BAD_FILE && !network && *lmbq_last_error(), "an error with its text: " + what);
    return NetworkPointer(network);
}

void run_small(const lmbq_network* network, const std::string& what) {
    lmbq_network_info info;
    expect(lmbq_network_query(network, &info) == LMBQ_OK, "query: " + what);
    if (info.bytes > 1 << 22 || info.bytes_per_pixel > 1 << 20) return;
    const int h = 3, w = 2;
    const std::vector<uint8_t> in((size_t)(h * w * info.channels), 77);
    std::vector<uint8_t> out((size_t)(h * w) * (size_t)(info.upscale * info.upscale * info.out_channels));
    const int row = w * info.channels, large = w * info.upscale * info.out_channels;
    expect(lmbq_network_run_bytes(network, in.data(), row, out.data(), large, h, w, 2, nullptr) == LMBQ_OK, "runs: " + what);
}

}  // namespace lmbq_test
