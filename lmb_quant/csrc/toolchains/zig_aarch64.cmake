# SPDX-License-Identifier: Apache-2.0
# The engine for Linux on aarch64 by Zig, which has a C++ library and every glibc's symbols inside: PyPI's ziglang is all
# that is needed. The environment names its program: ZIG=/path/to/zig.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(zig "$ENV{ZIG}")
if(NOT zig)
  find_program(zig zig REQUIRED)
endif()
set(CMAKE_CXX_COMPILER "${zig};c++")
# The glibc of manylinux2014. Zig's own defaults would trap where behaviour is undefined in builds without -O.
set(CMAKE_CXX_FLAGS_INIT "-target aarch64-linux-gnu.2.17 -fno-sanitize=undefined")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-s")
