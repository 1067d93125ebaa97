// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

namespace lmbq {

// Whether two stretches of memory share a byte.
inline bool overlap(const void* a, size_t bytes_a, const void* b, size_t bytes_b) {
    const uintptr_t p = reinterpret_cast<uintptr_t>(a), q = reinterpret_cast<uintptr_t>(b);
    return p < q + bytes_b && q < p + bytes_a;
}

}  // namespace lmbq
