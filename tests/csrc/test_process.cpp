// SPDX-License-Identifier: Apache-2.0
// Several threads in the engine at once, layers that come and go meanwhile, and forks.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "support/check.hpp"

using namespace lmbq_test;

namespace {

Case busy_case(int threshold) {
    Case c;
    c.set_channels(16, 16);
    c.h = 40, c.w = 33, c.threshold = threshold, c.threads = 3;
    return c;
}

bool right(const Case& c, const Data& d, const lmbq_layer* layer) {
    std::vector<float> x = d.x;
    return lmbq_layer_run(layer, x.data(), x.data(), x.data(), c.n, c.h, c.w, c.threads) == LMBQ_OK &&
           different(x.data(), d.y) == 0;
}

// Calls one layer, and makes and destroys layers of its own, until told to stop or `rounds` are done.
struct Caller {
    const Case& c;
    const Data& d;
    const lmbq_layer* shared;
    const std::atomic<bool>& stop;
    int rounds;

    void operator()() const {
        const lmbq_layer_desc s = d.describe(c, LMBQ_ISA_AUTO);
        for (int i = 0; i < rounds && !stop; i++) {
            expect(right(c, d, shared), "a layer in several threads");
            lmbq_layer* own = nullptr;
            expect(lmbq_layer_create(&s, &own) == LMBQ_OK && right(c, d, own), "a layer of this thread");
            lmbq_layer_destroy(own);
            if (i % 8 == 0) lmbq_workspace_trim();
        }
    }
};

void reentrant() {
    for (int threshold : {LMBQ_THRESHOLD_LOCAL, LMBQ_THRESHOLD_GLOBAL}) {
        const Case c = busy_case(threshold);
        const Data d = make(c);
        const Layer layer = create(c, d, LMBQ_ISA_AUTO);
        const std::atomic<bool> stop{false};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++) threads.emplace_back(Caller{c, d, layer.get(), stop, 20});
        for (std::thread& t : threads) t.join();
    }
}

#if defined(__SANITIZE_ADDRESS__)  // its own allocator may be locked for ever in the child of busy threads
constexpr int kBusy = 0;
#else
constexpr int kBusy = 2;
#endif

// A child made while other threads are anywhere in the engine can use it, with threads of its own.
void forks() {
#if defined(__SANITIZE_THREAD__)  // it cannot follow a fork of several threads
    return;
#endif
    const Case c = busy_case(LMBQ_THRESHOLD_LOCAL);
    const Data d = make(c);
    const Layer layer = create(c, d, LMBQ_ISA_AUTO);
    expect(right(c, d, layer.get()), "before the fork");
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < kBusy; i++) threads.emplace_back(Caller{c, d, layer.get(), stop, 1 << 30});
    for (int i = 0; i < 25; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);  // ends a child that waits for ever
            _exit(right(c, d, layer.get()) && right(c, d, layer.get()) ? 0 : 1);
        }
        int status = -1;
        expect(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "in a forked child");
    }
    stop = true;
    for (std::thread& t : threads) t.join();
    expect(right(c, d, layer.get()), "after the forks");
}

}  // namespace

int main() {
    reentrant();
    forks();
    return report("process");
}
