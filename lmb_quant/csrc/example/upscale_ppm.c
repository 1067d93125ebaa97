/* SPDX-License-Identifier: Apache-2.0
 * Upscales a picture: upscale_ppm network.safetensors small.ppm large.ppm
 * cc -std=c99 -O2 upscale_ppm.c -o upscale_ppm $(lmb-quant c-flags)      (docs/c.md) */
#include <stdio.h>
#include <stdlib.h>

#include <lmb_quant.h>

static int fail(const char *what, const char *why) {
    fprintf(stderr, "upscale_ppm: %s: %s\n", what, why);
    return 1;
}

/* All bytes of a file, for free(). */
static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long length = -1;
    if (file && fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) > 0) bytes = malloc((size_t)length);
    if (bytes && (fseek(file, 0, SEEK_SET) != 0 || fread(bytes, 1, (size_t)length, file) != (size_t)length)) {
        free(bytes);
        bytes = NULL;
    }
    if (file) fclose(file);
    *size = bytes ? (size_t)length : 0;
    return bytes;
}

/* A number of the header of a binary PPM, after spaces and comments; 0 if there is none. */
static int ppm_number(const unsigned char *ppm, size_t size, size_t *at) {
    int value = 0;
    while (*at < size && (ppm[*at] == '#' || ppm[*at] <= ' ')) {
        if (ppm[*at] == '#')
            while (*at < size && ppm[*at] != '\n') ++*at;
        else
            ++*at;
    }
    for (; *at < size && ppm[*at] >= '0' && ppm[*at] <= '9' && value < 1000000; ++*at) value = 10 * value + ppm[*at] - '0';
    return value;
}

int main(int argc, char **argv) {
    size_t net_size, ppm_size, at = 2, row, large_row;
    unsigned char *net_bytes, *ppm, *large;
    int width, height, top, finite, ok;
    lmbq_network *network;
    lmbq_network_info info;
    FILE *file;

    if (argc != 4) return fail("usage", "upscale_ppm network.safetensors small.ppm large.ppm");
    if (!(net_bytes = read_file(argv[1], &net_size))) return fail(argv[1], "cannot be read");
    if (lmbq_network_open(net_bytes, net_size, LMBQ_ISA_AUTO, &network) != LMBQ_OK) return fail(argv[1], lmbq_last_error());
    free(net_bytes); /* the network needs them no more */
    if (lmbq_network_query(network, &info) != LMBQ_OK) return fail(argv[1], lmbq_last_error());
    if (info.channels != 3 || info.out_channels != 3) return fail(argv[1], "it is not for RGB pictures");

    if (!(ppm = read_file(argv[2], &ppm_size))) return fail(argv[2], "cannot be read");
    if (ppm_size < 2 || ppm[0] != 'P' || ppm[1] != '6') return fail(argv[2], "it is no binary PPM");
    width = ppm_number(ppm, ppm_size, &at), height = ppm_number(ppm, ppm_size, &at), top = ppm_number(ppm, ppm_size, &at);
    if (width < 1 || height < 1 || top != 255) return fail(argv[2], "it is no PPM of 8 bits");
    row = 3 * (size_t)width, large_row = row * (size_t)info.upscale;
    if (++at > ppm_size || (ppm_size - at) / row < (size_t)height) return fail(argv[2], "it is truncated");

    if (!(large = malloc(large_row * (size_t)height * (size_t)info.upscale))) return fail(argv[3], "out of memory");
    if (lmbq_network_run_bytes(network, ppm + at, (int64_t)row, large, (int64_t)large_row, height, width, 2, &finite) != LMBQ_OK)
        return fail(argv[2], lmbq_last_error());
    lmbq_network_close(&network);
    free(ppm);

    if (!(file = fopen(argv[3], "wb"))) return fail(argv[3], "cannot be written");
    ok = fprintf(file, "P6\n%d %d\n255\n", width * info.upscale, height * info.upscale) > 0;
    ok = fwrite(large, large_row * (size_t)info.upscale, (size_t)height, file) == (size_t)height && ok;
    ok = fclose(file) == 0 && ok;
    free(large);
    return ok ? 0 : fail(argv[3], "cannot be written");
}
