// SPDX-License-Identifier: Apache-2.0
#include "steps.hpp"

#include <atomic>
#include <new>

#include "thread_pool.hpp"

namespace lmbq {
namespace {

struct Work {
    const Step* steps;
    int count, most_tasks, lanes;
    std::atomic<int>* done;      // tasks of each step
    std::atomic<char>* claimed;  // [step][task]

    void wait(int step) const {
        for (int i = 0; done[step].load(std::memory_order_acquire) < steps[step].tasks; i++) wait_round(i);
    }

    void run(int lane) const {
        for (int s = 0; s < count; s++) {
            const Step& step = steps[s];
            std::atomic<char>* const claims = claimed + (size_t)s * (size_t)most_tasks;
            const int first = (int)((long long)step.tasks * lane / lanes);
            for (int i = 0; i < step.tasks; i++) {
                const int task = first + i < step.tasks ? first + i : first + i - step.tasks;
                if (claims[task].load(std::memory_order_relaxed) || claims[task].exchange(1, std::memory_order_acquire))
                    continue;
                step.run(step.context, task, lane);
                done[s].fetch_add(1, std::memory_order_release);
            }
            wait(s);
        }
    }
};

}  // namespace

size_t step_bytes(int steps, int most_tasks) {
    return (size_t)steps * (sizeof(std::atomic<int>) + (size_t)most_tasks * sizeof(std::atomic<char>));
}

void run_steps(const Step* steps, int count, int most_tasks, int lanes, char* memory) {
    Work work{steps, count, most_tasks, lanes, nullptr, nullptr};
    work.done = reinterpret_cast<std::atomic<int>*>(memory);
    work.claimed = reinterpret_cast<std::atomic<char>*>(memory + (size_t)count * sizeof(std::atomic<int>));
    for (int s = 0; s < count; s++) new (work.done + s) std::atomic<int>(0);
    for (size_t i = 0; i < (size_t)count * (size_t)most_tasks; i++) new (work.claimed + i) std::atomic<char>(0);
    parallel_for(lanes, lanes, [](void* w, int lane) { static_cast<const Work*>(w)->run(lane); }, &work);
}

}  // namespace lmbq
