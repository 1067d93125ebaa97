// SPDX-License-Identifier: Apache-2.0
// The binary convolution by AMX: tiles of 16 pixels by 64 bits, each a byte of 0 or 1, times tiles of weights, +1 for a
// bit of 0 and -1 for one of 1. With the popcount of the weights that is the count of differing bits.
#include "avx512.inl"

namespace lmbq {
namespace {

#include "epilogue.inl"

constexpr int kRows = 16, kBytes = 64, kOut = 16;  // pixels, bits and outputs of a tile
constexpr int kPixels = 4 * kRows;  // of a step

struct alignas(64) TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#if defined(LMBQ_EMULATE_AVX512)
thread_local uint8_t emulated[8][kRows][kBytes];

void load_tile(int to, const void* from, size_t stride) {
    for (int i = 0; i < kRows; i++) memcpy(emulated[to][i], (const char*)from + (size_t)i * stride, kBytes);
}
void store_tile(int from, void* to) { memcpy(to, emulated[from], sizeof emulated[from]); }
void multiply(int sums, int bits, int weights) {
    for (int i = 0; i < kRows; i++) {
        int32_t sum[kOut];
        memcpy(sum, emulated[sums][i], sizeof sum);
        for (int o = 0; o < kOut; o++)
            for (int k = 0; k < kBytes; k++)
                sum[o] += emulated[bits][i][k] * (int8_t)emulated[weights][k / 4][o * 4 + k % 4];
        memcpy(emulated[sums][i], sum, sizeof sum);
    }
}
#define LMBQ_LOAD_TILE(to, from, stride) load_tile(to, from, stride)
#define LMBQ_STORE_TILE(from, to) store_tile(from, to)
#define LMBQ_MULTIPLY(sums, bits, weights) multiply(sums, bits, weights)

struct Tiles {
    Tiles() { memset(emulated, 0, sizeof emulated); }
};
#else
#define LMBQ_LOAD_TILE(to, from, stride) _tile_loadd(to, from, stride)
#define LMBQ_STORE_TILE(from, to) _tile_stored(from, to, kBytes)
#define LMBQ_MULTIPLY(sums, bits, weights) _tile_dpbusd(sums, bits, weights)

// The tiles' shapes, for as long as it lives. Others' are put back: oneDNN remembers which it set in a thread.
class Tiles {
public:
    Tiles() {
        _tile_storeconfig(&before_);
        _tile_loadconfig(&kConfig);
    }
    ~Tiles() { _tile_loadconfig(&before_); }

private:
    static constexpr TileConfig kConfig = {
        1, 0, {}, {kBytes, kBytes, kBytes, kBytes, kBytes, kBytes, kBytes, kBytes},
        {kRows, kRows, kRows, kRows, kRows, kRows, kRows, kRows}};
    TileConfig before_;
};
#endif

int pixel_bytes(const ConvPlan& p) { return (p.in_channels + kBytes - 1) / kBytes * kBytes; }
// Of 32 channels and fewer a population count is as fast or faster.
int supports(const ConvPlan& p) {
    return p.groups == 1 && p.in_channels > kBytes / 2 && (int64_t)p.kh * p.kw * p.in_channels < (1 << 23);
}
int vectors(const ConvPlan& p) { return (p.out_channels + kOut - 1) / kOut; }

int tiles_of_pixel(const ConvPlan& p) { return pixel_bytes(p) / kBytes; }
int tiles_of_output(const ConvPlan& p) { return p.kh * p.kw * tiles_of_pixel(p); }
size_t vector_bytes(const ConvPlan& p) { return (size_t)tiles_of_output(p) * kRows * kBytes; }

int build_segments(const ConvPlan& p, Segment* out) {
    if (out)
        for (int t = 0; t < p.kh * p.kw; t++) out[t] = {t / p.kw, t % p.kw * p.dw * pixel_bytes(p), tiles_of_pixel(p)};
    return p.kh * p.kw;
}

size_t weight_bytes(const ConvPlan& p) { return (size_t)vectors(p) * (vector_bytes(p) + kOut * sizeof(int32_t)); }

// [vector of outputs][tap][64 bits][4 bits][output][bit], then the popcount of each output.
void pack_weights(const ConvPlan& p, const uint8_t* bits, void* out) {
    const int taps = p.kh * p.kw, bytes = (p.in_channels + 7) / 8;
    int8_t* const weights = (int8_t*)out;
    int32_t* const pops = (int32_t*)(weights + (size_t)vectors(p) * vector_bytes(p));
    memset(out, 0, weight_bytes(p));
    for (int o = 0; o < p.out_channels; o++)
        for (int t = 0; t < taps; t++)
            for (int c = 0; c < p.in_channels; c++) {
                const int one = bits[((size_t)o * taps + t) * bytes + c / 8] >> (c % 8) & 1;
                const size_t k = (size_t)t * pixel_bytes(p) + c;
                weights[(size_t)(o / kOut) * vector_bytes(p) + k / 4 * kBytes + o % kOut * 4 + k % 4] = (int8_t)(1 - 2 * one);
                pops[o] += one;
            }
}

size_t act_row_bytes(const ConvPlan& p, int out_width) {
    const int whole = (out_width + kRows - 1) / kRows * kRows;  // what is read beyond the row is not used
    return (size_t)columns_read(p, whole) * pixel_bytes(p);
}

void expand_row(const ConvPlan& p, const uint8_t* bits, int bit_stride, int width, int left, int out_width,
                void* act) {
    const size_t unit = (size_t)p.unit;
    const PaddedRow row = padded_row(p, width, left, out_width);
    uint8_t* to = (uint8_t*)act;
    memset(to, 0, row.left * unit);
    to += row.left * unit;
    const __m512i ones = _mm512_set1_epi8(1);
    for (size_t x = 0; x < row.width; x++, bits += bit_stride)
        for (size_t c = 0; c < unit; c += kBytes, to += kBytes) {
            uint64_t word;
            memcpy(&word, bits + c / 8, sizeof word);
            _mm512_storeu_si512(to, _mm512_maskz_mov_epi8((__mmask64)word, ones));
        }
    memset(to, 0, row.right * unit);
}

// Pixels and a vector of outputs whose bits are counted.
struct Counted {
    int first = 0, pixels = 0, output = 0;
    const int32_t* counts = nullptr;  // [pixel][output]
};

template <int ACT, int SKIP>
LMBQ_INLINE void finish(const ConvPlan& p, const ConvRow& r, const Counted& c, int from, int until) {
    const Params<F16, ACT> par(p, c.output);
    const RowEnd<F16, ACT, SKIP> end(p, r);
    for (int i = from; i < until; i++)
        end.write(par, F16{_mm512_cvtepi32_ps(_mm512_load_si512(c.counts + i * kOut))}, end.pixel((size_t)(c.first + i)),
                  c.output);
}

// Counts the differing bits of TILES x 16 pixels and 16 outputs. `between` is called after each tile of weights: what it
// does runs while the tiles are multiplied.
template <int TILES, class Between>
LMBQ_INLINE void count(const ConvPlan& p, const ConvRow& r, int x, const int8_t* weights, const int32_t* pops,
                       int32_t* out, Between between) {
    const size_t step = (size_t)p.sw * p.unit;
    LMBQ_LOAD_TILE(0, pops, 0);  // the same line for each pixel
    if constexpr (TILES > 1) LMBQ_LOAD_TILE(1, pops, 0);
    if constexpr (TILES > 2) LMBQ_LOAD_TILE(2, pops, 0);
    if constexpr (TILES > 3) LMBQ_LOAD_TILE(3, pops, 0);
    for (int s = 0; s < p.nsegments; s++) {
        const uint8_t* a = (const uint8_t*)r.act[p.segments[s].row] + (size_t)x * step + p.segments[s].offset;
        for (int n = p.segments[s].count; n > 0; n--, a += kBytes) {
            LMBQ_LOAD_TILE(6, weights, kBytes);
            LMBQ_LOAD_TILE(4, a, step);
            LMBQ_MULTIPLY(0, 4, 6);
            if constexpr (TILES > 1) {
                LMBQ_LOAD_TILE(5, a + kRows * step, step);
                LMBQ_MULTIPLY(1, 5, 6);
            }
            if constexpr (TILES > 2) {
                LMBQ_LOAD_TILE(4, a + 2 * kRows * step, step);
                LMBQ_MULTIPLY(2, 4, 6);
            }
            if constexpr (TILES > 3) {
                LMBQ_LOAD_TILE(5, a + 3 * kRows * step, step);
                LMBQ_MULTIPLY(3, 5, 6);
            }
            between();
            weights += kRows * kBytes;
        }
    }
    constexpr int kTile = kRows * kOut;
    LMBQ_STORE_TILE(0, out);
    if constexpr (TILES > 1) LMBQ_STORE_TILE(1, out + kTile);
    if constexpr (TILES > 2) LMBQ_STORE_TILE(2, out + 2 * kTile);
    if constexpr (TILES > 3) LMBQ_STORE_TILE(3, out + 3 * kTile);
}

struct Row {
    template <int ACT, int SKIP>
    void run(const ConvPlan& p, const ConvRow& r) const {
        alignas(64) int32_t counts[2][kPixels * kOut];
        const int tiles = tiles_of_output(p);
        const int8_t* const weights = (const int8_t*)p.weights;
        const int32_t* const pops = (const int32_t*)(weights + (size_t)vectors(p) * vector_bytes(p));
        const Tiles configured;
        Prefetch prefetch(r, (ptrdiff_t)((r.width + kPixels - 1) / kPixels) * vectors(p) * tiles);
        Counted before;
        for (int x = 0; x < r.width; x += kPixels) {
            const int here = r.width - x < kPixels ? r.width - x : kPixels;
            const int8_t* w = weights;
            for (int o = 0; o < p.out_channels; o += kOut, w += vector_bytes(p)) {
                int32_t* const to = counts[before.counts == counts[0]];
                const int each = (before.pixels + tiles - 1) / tiles;
                int done = 0;
                const auto finish_some = [&]() __attribute__((always_inline)) {
                    prefetch.next();
                    const int until = before.pixels - done < each ? before.pixels : done + each;
                    finish<ACT, SKIP>(p, r, before, done, until);
                    done = until;
                };
                switch ((here + kRows - 1) / kRows) {
                    case 1: count<1>(p, r, x, w, pops + o, to, finish_some); break;
                    case 2: count<2>(p, r, x, w, pops + o, to, finish_some); break;
                    case 3: count<3>(p, r, x, w, pops + o, to, finish_some); break;
                    default: count<4>(p, r, x, w, pops + o, to, finish_some);
                }
                finish<ACT, SKIP>(p, r, before, done, before.pixels);  // where no bits are counted, all of them
                before = {x, here, o, to};
            }
        }
        finish<ACT, SKIP>(p, r, before, 0, before.pixels);
    }
};

}  // namespace

const ConvKernel amx_conv = {"amx-int8",   supports,      pixel_bytes, build_segments, weight_bytes,
                             pack_weights, act_row_bytes, expand_row,  dispatch_row<Row>};

}  // namespace lmbq
