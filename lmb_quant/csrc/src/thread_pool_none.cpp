// SPDX-License-Identifier: Apache-2.0
// Where there is one thread only, in place of thread_pool.cpp.
#include "thread_pool.hpp"

namespace lmbq {

void wait_round(int) {}

void parallel_for(int tasks, int, void (*fn)(void*, int), void* ctx) {
    for (int i = 0; i < tasks; i++) fn(ctx, i);
}

}  // namespace lmbq
