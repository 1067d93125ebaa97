// SPDX-License-Identifier: Apache-2.0
// Work in steps: all of a step is done before the next begins, and the threads are woken once for all of them.
#pragma once
#include "workspace.hpp"

namespace lmbq {

struct Step {
    int tasks;
    void (*run)(void* context, int task, int lane);  // must not throw
    void* context;
};

// Runs steps with up to `lanes` threads; `lane` is one's number, and one thread may have several in turn. Any number of
// threads, one too, finishes the work. A thread begins with the task of its own number, so that it meets what it left in
// its cache. memory: step_bytes(), zeroed here.
size_t step_bytes(int steps, int most_tasks);
void run_steps(const Step* steps, int count, int most_tasks, int lanes, char* memory);

}  // namespace lmbq
