// SPDX-License-Identifier: Apache-2.0
#include "packed_file/open.hpp"

#include <set>

#include "error.hpp"
#include "packed_file/header.hpp"
#include "packed_file/stages.hpp"

namespace lmbq {
namespace {

// Few outputs are padded to vectors, stages may share a layer, and a dilated kernel reads rows and columns between its
// taps: without a limit a small file could make a huge network, or one that needs gigabytes when it runs.
uint64_t most_bytes(size_t file) { return 64 * (uint64_t)file + (64 << 20); }

std::unique_ptr<Network> build(const uint8_t* bytes, size_t size, int isa, bool int8) {
    const Safetensors file(bytes, size);
    const PackedHeader header(file);
    Tensors tensors(file, header.int8);
    NetworkBuilder builder(image_channels(header.stages, header.layers), isa);
    std::set<std::string> used;
    for (size_t i = 0; i < header.stages.size(); i++) {
        StoredStage stage((int)i + 1, header.stages[i], builder.channels(), header.layers, tensors);
        stage.desc.int8 = int8 && takes_int8(stage.desc, builder.channels());
        builder.add(stage.desc);
        if (builder.bytes() > most_bytes(size) || builder.window_bytes() > most_bytes(size))
            throw Error(LMBQ_BAD_FILE, "its network takes more than 64 times the file's memory");
        used.insert(stage.layer_name);
    }
    for (const auto& entry : header.layers)
        if (!used.count(entry.first)) throw Error(LMBQ_BAD_FILE, "layer " + quoted(entry.first) + " has no stage");
    tensors.check_all_used();
    return builder.finish();
}

}  // namespace

std::unique_ptr<Network> open_packed(const uint8_t* bytes, size_t size, int isa, bool int8) {
    const int chosen = select_isa(isa);
    try {
        return build(bytes, size, chosen, int8);
    } catch (const Error& e) {
        throw Error(LMBQ_BAD_FILE, e.what());
    }
}

}  // namespace lmbq
