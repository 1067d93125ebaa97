// SPDX-License-Identifier: Apache-2.0
// The engine before main, by a static object that is made before the engine's own may be, and after it, by threads that
// nobody waits for.
#include <dirent.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "support/packed.hpp"

using namespace lmbq_test;

namespace {

// Opens a file of the corpus and runs it on three threads.
void use() {
    const NetworkPointer network = open_any(read_file(LMBQ_CORPUS "/vdsr.safetensors"), "a sound file");
    expect(network != nullptr, "a sound file opens");
    const int h = 40, w = 33;
    const std::vector<uint8_t> in(h * w, 77);
    std::vector<uint8_t> out(4 * in.size());
    expect(lmbq_network_run_bytes(network.get(), in.data(), w, out.data(), 2 * w, h, w, 3, nullptr) == LMBQ_OK, "it runs");
}

int threads() {
    DIR* tasks = opendir("/proc/self/task");
    if (!tasks) return 0;  // no Linux: not counted
    int count = 0;
    for (const dirent* entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

// Made first and destroyed last: what the engine destroys is gone while the threads still run.
struct Late {
    ~Late() { std::this_thread::sleep_for(std::chrono::milliseconds(200)); }
};

struct Early {
    Early() {
        static const Late late;
        use();
        workspace = lmbq_workspace_bytes();
        threads = ::threads();
    }
    size_t workspace;
    int threads;
};

void before_main(const Early& early) {
    expect(early.workspace > 0 && lmbq_workspace_bytes() == early.workspace, "the workspace of before main is kept");
    for (int i = 0; i < 20; i++) use();
    expect(threads() == early.threads, "the threads of before main are used");
}

void host() {
    for (;;) {
        use();
        if (failed()) {
            std::fputs("lifetime: the engine fails after main\n", stderr);
            std::_Exit(1);
        }
    }
}

#if !defined(__APPLE__)  // which has no priorities
__attribute__((init_priority(101)))  // before all constructors without one, wherever they are linked
#endif
const Early early;

}  // namespace

int main() {
    before_main(early);
    const int result = report("lifetime");
    if (result == 0)
        for (int i = 0; i < 2; i++) std::thread(host).detach();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return result;
}
