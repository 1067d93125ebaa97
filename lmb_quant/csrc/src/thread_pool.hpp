// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace lmbq {

constexpr int kMaxThreads = 256;

// A moment of waiting, the round-th of a wait: the first rounds keep the core, but leave it to its other thread.
void wait_round(int round);

// Runs fn(ctx, i) for i in [0, tasks) on at most `threads` threads (kMaxThreads in any case), the caller one of them.
// fn must not throw.
// While another call holds the workers, everything runs in the caller.
void parallel_for(int tasks, int threads, void (*fn)(void*, int), void* ctx);

}  // namespace lmbq
