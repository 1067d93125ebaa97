// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace lmbq {

constexpr int kMaxThreads = 256;

void relax();  // a moment of waiting that leaves the core to its other thread

// Runs fn(ctx, i) for i in [0, tasks) on at most `threads` threads (kMaxThreads in any case), the caller one of them.
// fn must not throw.
// While another call holds the workers, everything runs in the caller.
void parallel_for(int tasks, int threads, void (*fn)(void*, int), void* ctx);

}  // namespace lmbq
