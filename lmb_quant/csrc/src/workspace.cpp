// SPDX-License-Identifier: Apache-2.0
#include "workspace.hpp"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

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

struct Pool {
    Mutex mutex;
    std::vector<Block> idle;
    size_t held = 0;
};

union Forever {  // never destroyed: threads may still be running at exit
    Pool pool;
    Forever() : pool() {}
    ~Forever() {}
} forever;

#if !defined(LMBQ_ONE_THREAD)
// A fork while another thread is in here would leave the child a mutex that nobody unlocks.
const int registered = pthread_atfork([] { forever.pool.mutex.lock(); }, [] { forever.pool.mutex.unlock(); },
                                      [] { forever.pool.mutex.unlock(); });
#endif

constexpr size_t kIdleBlocks = 64;

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
        p.idle.reserve(kIdleBlocks);
        size_t best = p.idle.size();
        for (size_t i = 0; i < p.idle.size(); i++)
            if (p.idle[i].size >= bytes && (best == p.idle.size() || p.idle[i].size < p.idle[best].size)) best = i;
        if (best < p.idle.size()) {
            data_ = p.idle[best].data;
            size_ = p.idle[best].size;
            p.idle.erase(p.idle.begin() + (std::ptrdiff_t)best);
            return;
        }
        if (!p.idle.empty()) {  // all too small: replace the newest instead of hoarding
            aligned_delete(p.idle.back().data);
            p.held -= p.idle.back().size;
            p.idle.pop_back();
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
    if (p.idle.size() < kIdleBlocks) {  // capacity was reserved: no throw
        p.idle.push_back({data_, size_});
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
    for (const Block& b : p.idle) {
        p.held -= b.size;
        aligned_delete(b.data);
    }
    p.idle.clear();
}

}  // namespace lmbq
