// SPDX-License-Identifier: Apache-2.0
// Scratch memory kept between calls: fresh pages cost more than a binary convolution.
#pragma once
#include <cstddef>

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
    template <class T>
    T* take(size_t count) {
        T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
        used_ += (count * sizeof(T) + 63) / 64 * 64;
        return p;
    }
    size_t used() const { return used_; }

private:
    char* base_;
    size_t used_ = 0;
};

}  // namespace lmbq
