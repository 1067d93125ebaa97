// SPDX-License-Identifier: Apache-2.0
// A network from the bytes of a packed file, of strangers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "network.hpp"

namespace lmbq {

// Throws Error, LMBQ_BAD_FILE where the bytes are to blame. Nothing of them is needed afterwards. Memory and time are
// bounded by the size of the file. int8: whether convolutions multiply in 8 bits that can.
std::unique_ptr<Network> open_packed(const uint8_t* bytes, size_t size, int isa, bool int8);

}  // namespace lmbq
