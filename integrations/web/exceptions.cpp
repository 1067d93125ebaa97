// SPDX-License-Identifier: Apache-2.0
// What Zig's C++ library leaves out for WebAssembly: the tag of C++ exceptions. And an end without words, in place of the
// library's, which would be larger than the engine; nobody would see them.
#include <__verbose_abort>

__asm__(".globl __cpp_exception\n"
        ".tagtype __cpp_exception i32\n"
        "__cpp_exception:\n");

namespace {
[[noreturn]] void stop() { __builtin_trap(); }
}  // namespace

void std::__libcpp_verbose_abort(const char*, ...) noexcept { stop(); }

extern "C" {
void (*__cxa_terminate_handler)() = stop;
void (*__cxa_unexpected_handler)() = stop;
void (*__cxa_new_handler)() = nullptr;
[[noreturn]] void __abort_message(const char*, ...) { stop(); }
}
