// SPDX-License-Identifier: Apache-2.0
// Packed files taken apart, changed and put together again, with the right checksum.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "network.hpp"

namespace lmbq_test {

std::string read_file(const std::string& path);
std::vector<std::string> corpus();  // the sound files

struct PackedFile {
    struct Tensor {
        std::string name, dtype;
        std::vector<int64_t> shape;
        std::string bytes;
    };
    std::string header;  // the JSON, without its checksum
    std::vector<Tensor> tensors;

    explicit PackedFile(const std::string& file);
    std::string joined() const;  // a header that is no JSON gets no checksum
    PackedFile& replace(const std::string& from, const std::string& to);  // the first place in the header
};

std::string container(const std::string& header, const std::string& data);

// Opens bytes that may be anything: a network, or LMBQ_BAD_FILE and a text; counts a failure else. The bytes are copied to
// where a reader beyond them would be seen.
NetworkPointer open_any(const std::string& bytes, const std::string& what);
// Runs it on a small picture unless that would take long; counts a failure where it does not run.
void run_small(const lmbq_network* network, const std::string& what);

}  // namespace lmbq_test
