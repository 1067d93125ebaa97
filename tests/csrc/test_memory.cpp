// SPDX-License-Identifier: Apache-2.0
// What the engine holds between calls, tensors of more than 2^31 values, and allocations that fail.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "support/packed.hpp"

using namespace lmbq_test;

namespace {

std::atomic<long> allowed{-1};  // allocations until all fail; negative: none fails

bool refuse() { return allowed.load() >= 0 && allowed.fetch_sub(1) <= 0; }

}  // namespace

// These take the place of the ones that the library uses.
void* operator new(size_t bytes) {
    void* p = refuse() ? nullptr : malloc(bytes ? bytes : 1);
    if (!p) throw std::bad_alloc();
    return p;
}
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }
extern "C" int posix_memalign(void** p, size_t alignment, size_t bytes) {
    *p = refuse() ? nullptr : aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    return *p ? 0 : 12;
}

namespace {

// Every allocation of create and run fails once: an error code, and the next call works.
void failing_allocations() {
    for (int threshold : {LMBQ_THRESHOLD_CHANNEL, LMBQ_THRESHOLD_LOCAL, LMBQ_THRESHOLD_GLOBAL}) {
        Case c;
        c.set_channels(16, 16);
        c.h = 40, c.w = 33, c.threshold = threshold, c.shift = true, c.threads = 3;
        const Data d = make(c);
        std::vector<float> x = d.x;
        const lmbq_layer_desc s = d.describe(c, LMBQ_ISA_AUTO);
        bool done = false;
        long n = 0;
        for (; !done && n < 100; n++) {
            lmbq_workspace_trim();
            lmbq_layer* layer = nullptr;
            memcpy(x.data(), d.x.data(), x.size() * sizeof(float));
            allowed = n;
            lmbq_status status = lmbq_layer_create(&s, &layer);
            if (status == LMBQ_OK)
                status = lmbq_layer_run(layer, x.data(), x.data(), x.data(), c.n, c.h, c.w, c.threads);
            done = allowed > 0;
            allowed = -1;
            const bool as_it_should = status == LMBQ_OK ? different(x.data(), d.y) == 0
                                                        : status == LMBQ_NO_MEMORY && *lmbq_last_error();
            expect(as_it_should, "allocation " + std::to_string(n) + " fails");
            lmbq_layer_destroy(layer);
        }
        expect(done && n > 3, "every allocation was made to fail");
        check(c, d);
    }
}

// The same of the backward pass, whose threads each need memory.
void failing_allocations_of_gradients() {
    Case c;
    c.set_channels(16, 16);
    c.n = 8, c.h = 20, c.w = 17, c.threads = 3, c.skip = SKIP_NONE, c.threshold = LMBQ_THRESHOLD_GLOBAL;
    const Data d = make(c);
    const Layer layer = create(c, d, LMBQ_ISA_AUTO);
    std::vector<uint8_t> bits((size_t)c.n * c.h * c.w * 8);
    std::vector<float> y(c.outputs()), x[2] = {y, y}, weight[2];
    expect(lmbq_layer_run_bits(layer.get(), d.x.data(), nullptr, bits.data(), nullptr, y.data(), c.n, c.h, c.w, 1) == LMBQ_OK,
           "bits are kept");
    for (std::vector<float>& w : weight) w.resize((size_t)16 * 16 * 9);
    auto run = [&](int which) {
        lmbq_backward b;
        memset(&b, 0, sizeof b);
        b.struct_size = sizeof b, b.surrogate = LMBQ_SURROGATE_STE;
        b.x = d.x.data(), b.bits = bits.data(), b.grad_out = y.data();
        b.grad_x = x[which].data(), b.grad_weight = weight[which].data();
        return lmbq_layer_backward(layer.get(), &b, c.n, c.h, c.w, c.threads);
    };
    expect(run(0) == LMBQ_OK, "gradients");
    bool done = false;
    long n = 0;
    for (; !done && n < 100; n++) {
        lmbq_workspace_trim();
        allowed = n;
        const lmbq_status status = run(1);
        done = allowed > 0;
        allowed = -1;
        const bool as_it_should = status == LMBQ_OK ? different(x[1].data(), x[0]) == 0 && different(weight[1].data(), weight[0]) == 0
                                                    : status == LMBQ_NO_MEMORY && *lmbq_last_error();
        expect(as_it_should, "allocation " + std::to_string(n) + " of gradients fails");
    }
    expect(done && n > 1, "every allocation of gradients was made to fail");
}

// The same of a network.
void failing_allocations_of_a_network() {
    Network net(3);
    net.conv(8, 3, LMBQ_ACT_RELU, false);
    Case c;
    c.set_channels(8, 8);
    c.threshold = LMBQ_THRESHOLD_GLOBAL;
    net.binary(c);
    net.conv(12, 1, LMBQ_ACT_NONE, false);
    net.shuffle(2);
    net.add_upscaled(2, LMBQ_BICUBIC, 1.0f);
    const Image image = random_image(40, 33, 3);
    const std::vector<float> want = net.run(image, LMBQ_ISA_PORTABLE).v;
    bool done = false;
    long n = 0;
    for (; !done && n < 200; n++) {
        lmbq_workspace_trim();
        lmbq_network* network = nullptr;
        std::vector<float> out(want.size());
        allowed = n;
        lmbq_status status =
            lmbq_network_create(net.stages.data(), (int)net.stages.size(), 3, LMBQ_ISA_PORTABLE, &network);
        if (status == LMBQ_OK)
            status = lmbq_network_run(network, image.v.data(), LMBQ_INTERLEAVED, out.data(), LMBQ_INTERLEAVED, 1, 40, 33, 3,
                                      nullptr);
        done = allowed > 0;
        allowed = -1;
        const bool as_it_should = status == LMBQ_OK ? different(out.data(), want) == 0
                                                    : status == LMBQ_NO_MEMORY && *lmbq_last_error();
        expect(as_it_should, "allocation " + std::to_string(n) + " of a network fails");
        lmbq_network_close(&network);
    }
    expect(done && n > 10, "every allocation of a network was made to fail");
}

// The same of opening a packed file and running its network.
void failing_allocations_of_files() {
    const std::string file = read_file(LMBQ_CORPUS "/hybrid.safetensors");
    uint8_t in[3 * 5 * 4], out[4 * sizeof in];
    memset(in, 77, sizeof in);
    bool done = false;
    long n = 0;
    for (; !done && n < 20000; n++) {
        lmbq_workspace_trim();
        lmbq_network* network = nullptr;
        allowed = n;
        lmbq_status status = lmbq_network_open(file.data(), file.size(), LMBQ_ISA_AUTO, &network);
        if (status == LMBQ_OK) status = lmbq_network_run_bytes(network, in, 15, out, 30, 4, 5, 2, nullptr);
        done = allowed > 0;
        allowed = -1;
        expect(status == LMBQ_OK || (status == LMBQ_NO_MEMORY && *lmbq_last_error()),
               "allocation " + std::to_string(n) + " of a file fails");
        lmbq_network_close(&network);
    }
    expect(done && n > 50, "every allocation of a file was made to fail");
}

size_t held_after(const Case& c, int calls) {
    const Data d = make(c);
    const Layer layer = create(c, d, LMBQ_ISA_AUTO);
    std::vector<float> out(d.y.size());
    for (int i = 0; i < calls; i++)
        expect(lmbq_layer_run(layer.get(), d.x.data(), nullptr, out.data(), c.n, c.h, c.w, c.threads) == LMBQ_OK, "run");
    return lmbq_workspace_bytes();
}

void workspaces() {
    lmbq_workspace_trim();
    expect(lmbq_workspace_bytes() == 0, "trim gives everything back");
    for (int threshold : {LMBQ_THRESHOLD_LOCAL, LMBQ_THRESHOLD_GLOBAL}) {
        Case c;
        c.set_channels(16, 16);
        c.skip = SKIP_NONE, c.threshold = threshold, c.threads = 2, c.n = 2, c.w = 200;
        const size_t first = held_after(c, 1);
        expect(first > 0 && held_after(c, 20) == first, "further calls take no more");
        c.n = 40;
        expect(held_after(c, 2) <= first + 40 * 16 * sizeof(float) + 8192, "a large batch takes no more but its means");
        lmbq_workspace_trim();
        expect(lmbq_workspace_bytes() == 0, "trim gives everything back");
    }
}

// 2.6 * 10^9 values, nearly all of them pages that were never written; strides read a few rows of them.
void large_tensor() {
#if defined(__SANITIZE_ADDRESS__)  // its shadow of the tensor would be real memory
    return;
#endif
    Case c;
    c.n = 1, c.h = 1, c.w = 1000;
    c.set_channels(64, 8);
    c.set_act(LMBQ_ACT_NONE);
    c.set_kernel(1);
    c.skip = SKIP_NONE, c.sh = 1000, c.threshold = LMBQ_THRESHOLD_LOCAL;
    const Data d = make(c);
    const int64_t images = 2, rows = 20001;
    const size_t row = (size_t)c.w * c.I, values = (size_t)(images * rows) * row, out_row = (size_t)c.w * c.O;
    void* map = mmap(nullptr, values * sizeof(float), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return;  // a machine that lends no address space
    float* x = static_cast<float*>(map);
    float* last = x + values - row;
    memcpy(last, d.x.data(), row * sizeof(float));
    for (int isa : isas()) {
        const Layer layer = create(c, d, isa);
        std::vector<float> out((size_t)images * 21 * out_row), want(out_row), two(2 * row);
        memcpy(two.data() + row, last, row * sizeof(float));
        // the row above the last one is 0: an image of two rows has the same window
        Case small = c;
        small.sh = 1;
        const Layer plain = create(small, d, isa);
        std::vector<float> both(2 * out_row);
        expect(lmbq_layer_run(plain.get(), two.data(), nullptr, both.data(), 1, 2, c.w, 1) == LMBQ_OK, "two rows");
        memcpy(want.data(), both.data() + out_row, out_row * sizeof(float));
        for (int threads : {1, 3}) {
            std::fill(out.begin(), out.end(), 0.0f);
            expect(lmbq_layer_run(layer.get(), x, nullptr, out.data(), images, rows, c.w, threads) == LMBQ_OK &&
                       different(out.data() + out.size() - out_row, want) == 0,
                   std::string("the last row of a large tensor, ") + lmbq_isa_name(isa));
        }
    }
    munmap(map, values * sizeof(float));
}

}  // namespace

int main() {
    failing_allocations();
    failing_allocations_of_gradients();
    failing_allocations_of_a_network();
    failing_allocations_of_files();
    workspaces();
    large_tensor();
    return report("memory");
}
