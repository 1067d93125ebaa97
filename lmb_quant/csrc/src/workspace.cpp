// SPDX-License-Identifier: Apache-2.0
#include "workspace.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#if !defined(LMBQ_ONE_THREAD)
#include <pthread.h>
#endif

namespace lmbq {
namespace {

struct Block {
    void* data;
    size_t size;
};

#if defined(LMBQ_ONE_THREAD)
struct Mutex {
    void lock() {}
    void unlock() {}
};
#else
using Mutex = std::mutex;
#endif

constexpr size_t kIdleBlocks = 64;

struct Pool {
    Mutex mutex;
    Block idle[kIdleBlocks] = {};
    size_t count = 0, held = 0;
};

union Forever {  // never destroyed: threads may still be running at exit
    Pool pool;
    constexpr Forever() : pool() {}
    ~Forever() {}
} forever;

#if !defined(LMBQ_ONE_THREAD)
// A fork while another thread is in here would leave the child a mutex that nobody unlocks.
const int registered = pthread_atfork([] { forever.pool.mutex.lock(); }, [] { forever.pool.mutex.unlock(); },
                                      [] { forever.pool.mutex.unlock(); });
#endif

}  // namespace

void* aligned_new(size_t bytes) {
    void* p = nullptr;
    if (posix_memalign(&p, 64, bytes) != 0) throw std::bad_alloc();
    return p;
}

void aligned_delete(void* p) noexcept { std::free(p); }

Workspace::Workspace(size_t bytes) : data_(nullptr), size_(0) {
    if (bytes > SIZE_MAX - 4095) throw std::bad_alloc();
    Pool& p = forever.pool;
    {
        std::lock_guard<Mutex> lock(p.mutex);
        size_t best = p.count;
        for (size_t i = 0; i < p.count; i++)
            if (p.idle[i].size >= bytes && (best == p.count || p.idle[i].size < p.idle[best].size)) best = i;
        if (best < p.count) {
            data_ = p.idle[best].data;
            size_ = p.idle[best].size;
            std::copy(p.idle + best + 1, p.idle + p.count, p.idle + best);
            p.count--;
            return;
        }
        if (p.count > 0) {  // all too small: replace the newest instead of hoarding
            aligned_delete(p.idle[--p.count].data);
            p.held -= p.idle[p.count].size;
        }
    }
    size_ = (bytes + 4095) / 4096 * 4096;
    data_ = aligned_new(size_);
    std::lock_guard<Mutex> lock(p.mutex);
    p.held += size_;
}

Workspace::~Workspace() {
    Pool& p = forever.pool;
    std::lock_guard<Mutex> lock(p.mutex);
    if (p.count < kIdleBlocks) {
        p.idle[p.count++] = {data_, size_};
    } else {
        p.held -= size_;
        aligned_delete(data_);
    }
}

size_t Workspace::held() {
    std::lock_guard<Mutex> lock(forever.pool.mutex);
    return forever.pool.held;
}

void Workspace::trim() {
    Pool& p = forever.pool;
    std::lock_guard<Mutex> lock(p.mutex);
    for (; p.count > 0; p.count--) {
        p.held -= p.idle[p.count - 1].size;
        aligned_delete(p.idle[p.count - 1].data);
    }
}

}  // namespace lmbq
