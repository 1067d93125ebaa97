// SPDX-License-Identifier: Apache-2.0
// A packed file of any bytes is opened and, if it is one, run. usage without libFuzzer: fuzz_open FILE...
#include <cstdio>

#include "support/packed.hpp"

using namespace lmbq_test;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const NetworkPointer network = open_any(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    if (network) run_small(network.get(), "fuzz");
    if (failed()) {
        std::fflush(stdout);
        __builtin_trap();
    }
    return 0;
}

#ifndef LMBQ_FUZZER
int main(int argc, char** argv) {
    for (int i = 1; i < argc; i++) {
        const std::string file = read_file(argv[i]);
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    }
    return report("fuzz_open");
}
#endif
