// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), the checksum of a packed file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lmbq {

class Sha256 {
public:
    void add(const void* data, size_t bytes);
    void add(std::string_view text) { add(text.data(), text.size()); }
    std::string hex();  // 64 digits; nothing may be added after it

private:
    void block(const uint8_t* data);

    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t rest_[64];  // total_ % 64 bytes that fill no block yet
    uint64_t total_ = 0;
};

}  // namespace lmbq
