// SPDX-License-Identifier: Apache-2.0
#include "thread_pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

namespace lmbq {

namespace {

// Up to a millisecond of spinning, as long as the host needs from one layer to the next, spares them the wake-ups.
constexpr int kSpin = 20000;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Pool {
    std::mutex busy;  // held by the call that owns the workers
    std::mutex mutex;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;  // no constructor that runs: Forever is constant from the start
    std::atomic<unsigned> generation{0};
    int workers = 0, sleeping = 0;

    void (*fn)(void*, int) = nullptr;
    void* ctx = nullptr;
    int tasks = 0;
    std::atomic<int> next{0}, seats{0}, inside{0};

    void drain() {
        for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) fn(ctx, i);
    }

    void work() {
        unsigned seen = 0;
        for (;;) {
            for (int i = 0; i < kSpin && generation.load(std::memory_order_acquire) == seen; i++) relax();
            if (generation.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex);
                sleeping++;
                while (generation.load(std::memory_order_acquire) == seen) pthread_cond_wait(&wake, mutex.native_handle());
                sleeping--;
            }
            seen = generation.load(std::memory_order_acquire);
            // enter first, then take a seat: the owner closes the seats and waits until nobody is inside
            inside.fetch_add(1, std::memory_order_seq_cst);
            if (seats.fetch_sub(1, std::memory_order_seq_cst) > 0) drain();
            inside.fetch_sub(1, std::memory_order_release);
        }
    }

    void grow(int wanted) {
        for (; workers < wanted; workers++) try {
                std::thread([this] { work(); }).detach();
            } catch (const std::exception&) {
                return;  // fewer threads, same result
            }
    }
};

union Forever {  // never destroyed: the workers wait in it until the process ends
    Pool pool;
    constexpr Forever() : pool() {}
    ~Forever() {}
} forever;

// A forked child has no workers, and may have a mutex that nobody unlocks.
const int registered = pthread_atfork(nullptr, nullptr, [] { new (&forever.pool) Pool; });

}  // namespace

void wait_round(int round) {
    // No yield: on Linux 6.18 a loop of yields was seen to keep the awaited thread from running for minutes.
    if (round < kSpin) relax();
    else std::this_thread::sleep_for(std::chrono::microseconds(50));
}

void parallel_for(int tasks, int threads, void (*fn)(void*, int), void* ctx) {
    threads = std::min({threads, tasks, kMaxThreads});
    if (threads > 1) {
        Pool& p = forever.pool;
        std::unique_lock<std::mutex> own(p.busy, std::try_to_lock);
        if (own.owns_lock()) {
            p.grow(threads - 1);
            p.fn = fn;
            p.ctx = ctx;
            p.tasks = tasks;
            p.next.store(0, std::memory_order_relaxed);
            p.seats.store(threads - 1, std::memory_order_seq_cst);
            {
                std::lock_guard<std::mutex> lock(p.mutex);
                p.generation.fetch_add(1, std::memory_order_release);
                if (p.sleeping > 0) pthread_cond_broadcast(&p.wake);
            }
            p.drain();
            p.seats.store(0, std::memory_order_seq_cst);
            for (int i = 0; p.inside.load(std::memory_order_seq_cst) != 0; i++) wait_round(i);
            return;
        }
    }
    for (int i = 0; i < tasks; i++) fn(ctx, i);
}

}  // namespace lmbq
