// SPDX-License-Identifier: Apache-2.0
#include "part_clock.hpp"

#include <algorithm>

namespace lmbq {

double cycles_per_nanosecond() {
    using Clock = std::chrono::steady_clock;
    constexpr int kAdditions = 1 << 18, kTries = 5;
    double best = 0;
    for (int i = 0; i < kTries; i++) {
        size_t sum = (size_t)i;
        size_t step = 3;
        asm volatile("" : "+r"(step));  // a register: small constants may be added for nothing
        const Clock::time_point start = Clock::now();
#pragma GCC unroll 64
        for (int j = 0; j < kAdditions; j++) {
            sum += step;
            asm volatile("" : "+r"(sum));
        }
        best = std::max(best, kAdditions / std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace lmbq
