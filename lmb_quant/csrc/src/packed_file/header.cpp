// SPDX-License-Identifier: Apache-2.0
#include "packed_file/header.hpp"

#include "packed_file/fields.hpp"
#include "packed_file/sha256.hpp"

namespace lmbq {
namespace {

constexpr int64_t kNewest = 4, kFirstWithStages = 4;
constexpr const char *kKey = "lmb_quant", *kInt8 = "lmb_quant.int8_channels";

[[noreturn]] void refuse(const std::string& what) { throw Error(LMBQ_BAD_FILE, what); }

// As Python's json.dumps writes the list of name, dtype and shape.
void add_name(Sha256& digest, const std::string& name, const StoredTensor& tensor) {
    digest.add("[");
    dump_string(digest, name);
    std::string rest = ", \"" + std::string(tensor.dtype) + "\", [";
    for (size_t i = 0; i < tensor.shape.size(); i++) rest += (i ? ", " : "") + std::to_string(tensor.shape[i]);
    digest.add(rest + "]]");
}

std::string checksum(const Json::Value& header, const Safetensors& file) {
    Sha256 digest;
    header.dump(digest, "sha256");
    for (const auto& [name, tensor] : file.tensors) {
        add_name(digest, name, tensor);
        digest.add(tensor.data, tensor.bytes);
    }
    return digest.hex();
}

void check_object(const Fields& header, const char* key, bool may_miss) {
    const Json::Value* value = may_miss ? header.find(key) : &header.at(key);
    if (value && value->kind() != Json::OBJECT && value->kind() != Json::NOTHING)
        header.refuse(key, "Allowed: an object or null");
}

}  // namespace

PackedHeader::PackedHeader(const Safetensors& file) {
    const auto text = file.metadata.find(kKey);
    if (text == file.metadata.end()) refuse("it is a safetensors file, but not one of lmb_quant.save()");
    json_ = std::make_unique<Json>(text->second, "header");
    const Json::Value root = json_->root();

    // The version first: of a newer one nothing else is known.
    int64_t version = 0;
    for (const auto& [key, value] : members_of(root, "header"))
        if (key == "format_version" && (!value.integer(&version) || version < 1 || version > kNewest))
            refuse("format_version: " + quoted(value.text()) + " is not known here. Allowed: 1 to " +
                   std::to_string(kNewest));
    const Fields header(
        root, "header",
        {"format_version", "package_version", "arch", "recipe", "layers", "stages", "encoded", "sha256"});
    header.at("format_version");
    header.word("package_version");
    check_object(header, "arch", false);
    check_object(header, "recipe", true);
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // no fuzzer finds a checksum
    if (!header.find("sha256") || header.word("sha256") != checksum(root, file))
        refuse("it is damaged: the contents do not have the checksum that the header gives");
#endif

    if (const Json::Value* encoded = header.find("encoded"))
        for (const auto& [name, value] : members_of(*encoded, "header: encoded")) {
            const Fields fields(value, "header: encoded", {"codec", "words"});
            if (fields.word("codec") != kInt8)
                refuse("tensor " + quoted(name) + " is stored in parts by " + quoted(fields.word("codec")) +
                       ": only Python reads it");
            if (!members_of(fields.at("words"), "header: encoded: words").empty())
                fields.refuse("words", "Allowed: {}");
            int8.insert(name);
        }
    for (const auto& [name, value] : members_of(header.at("layers"), "header: layers")) layers.emplace(name, value);
    const Json::Value* found = header.find("stages");
    if (version < kFirstWithStages)
        refuse("it has format version " + std::to_string(version) +
               ", which does not say the network's stages. Write it again, in Python: lmb.save(lmb.load(path), path)");
    if (!found || found->kind() == Json::NOTHING) refuse("its network has no stages: only Python runs it");
    if (found->kind() != Json::ARRAY) header.refuse("stages", "Allowed: a list");
    stages = found->items();
}

}  // namespace lmbq
