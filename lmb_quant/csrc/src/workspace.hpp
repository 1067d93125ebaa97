// SPDX-License-Identifier: Apache-2.0
// Scratch memory kept between calls: fresh pages cost more than a binary convolution.
#pragma once
#include <cstddef>
#include <new>

namespace lmbq {

void* aligned_new(size_t bytes);  // 64-byte aligned; throws std::bad_alloc
void aligned_delete(void* p) noexcept;

class Workspace {  // borrows a block of at least `bytes` and returns it at the end
public:
    explicit Workspace(size_t bytes);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    char* data() const { return static_cast<char*>(data_); }

    static size_t held();
    static void trim();

private:
    void* data_;
    size_t size_;
};

class Carver {  // hands out 64-byte aligned pieces; with a null base it only adds up
public:
    explicit Carver(char* base) : base_(base) {}
    // Throws std::bad_alloc where the sizes cannot be addressed.
    template <class T>
    T* take(size_t count, size_t times = 1) {
        T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        size_t bytes = 0, until = 0;
        if (__builtin_mul_overflow(count, times, &bytes) || __builtin_mul_overflow(bytes, sizeof(T), &bytes) ||
            __builtin_add_overflow(bytes, (size_t)63, &bytes) || __builtin_add_overflow(used_, bytes / 64 * 64, &until))
            throw std::bad_alloc();
        used_ = until;
        return p;
    }
    size_t used() const { return used_; }

private:
    char* base_;
    size_t used_ = 0;
};

}  // namespace lmbq
