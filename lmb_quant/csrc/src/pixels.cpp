// SPDX-License-Identifier: Apache-2.0
#include "pixels.hpp"

#include <cstring>

namespace lmbq {

void* Pixels::at(int channel, int y) const {
    const size_t i = (size_t)channel * plane + (size_t)y * stride;
    return format == BYTES ? static_cast<void*>(static_cast<uint8_t*>(data) + i) : static_cast<float*>(data) + i;
}

const float* unit_bytes() {
    struct Table {
        float of[256];
        Table() {
            for (int i = 0; i < 256; i++) of[i] = (float)i / 255.0f;
        }
    };
    static const Table table;
    return table.of;
}

void PixelReader::row(int y, float* to) const {
    const int c = image_.channels;
    const size_t n = (size_t)image_.w * (size_t)c;
    if (image_.format == Pixels::PLANAR) {
        for (int ch = 0; ch < c; ch++) {
            const float* from = static_cast<const float*>(image_.at(ch, y));
            for (int x = 0; x < image_.w; x++) to[(size_t)x * c + ch] = from[x];
        }
    } else if (image_.format == Pixels::INTERLEAVED) {
        std::memcpy(to, image_.at(0, y), n * sizeof(float));
    } else {
        const uint8_t* from = static_cast<const uint8_t*>(image_.at(0, y));
        const float* table = unit_bytes();
        for (size_t i = 0; i < n; i++) to[i] = table[from[i]];
    }
}

void PixelReader::plane_row(int channel, int y, float* to) const {
    const size_t c = (size_t)image_.channels, w = (size_t)image_.w;
    if (image_.format == Pixels::PLANAR) {
        std::memcpy(to, image_.at(channel, y), w * sizeof(float));
    } else if (image_.format == Pixels::INTERLEAVED) {
        const float* from = static_cast<const float*>(image_.at(0, y)) + channel;
        for (size_t x = 0; x < w; x++) to[x] = from[x * c];
    } else {
        const uint8_t* from = static_cast<const uint8_t*>(image_.at(0, y)) + channel;
        const float* table = unit_bytes();
        for (size_t x = 0; x < w; x++) to[x] = table[from[x * c]];
    }
}

void PixelWriter::lay_out(Carver& carver) {
    const size_t row = (size_t)image_.w * (size_t)image_.channels;
    planes_ = carver.take<float>(image_.format == Pixels::PLANAR ? 0 : row * (size_t)open_);
    bytes_ = carver.take<uint8_t>(image_.format == Pixels::BYTES ? row : 0);
}

void PixelWriter::row(int y, const float* values) {
    const int c = image_.channels;
    const size_t n = (size_t)image_.w * (size_t)c;
    finite_ &= isa_.real->finite_row(values, n) != 0;
    if (image_.format == Pixels::PLANAR) {
        for (int ch = 0; ch < c; ch++) {
            float* to = static_cast<float*>(image_.at(ch, y));
            for (int x = 0; x < image_.w; x++) to[x] = values[(size_t)x * c + ch];
        }
    } else if (image_.format == Pixels::INTERLEAVED) {
        std::memcpy(image_.at(0, y), values, n * sizeof(float));
    } else {
        isa_.real->bytes_row(values, static_cast<uint8_t*>(image_.at(0, y)), n);
    }
}

float* PixelWriter::plane_row(int channel, int y) {
    if (image_.format == Pixels::PLANAR) return static_cast<float*>(image_.at(channel, y));
    return planes_ + ((size_t)(y % open_) * (size_t)image_.channels + (size_t)channel) * (size_t)image_.w;
}

void PixelWriter::finish_planes(int y) {
    const int c = image_.channels;
    const size_t w = (size_t)image_.w;
    const float* const planes = plane_row(0, y);
    for (int ch = 0; ch < c; ch++) finite_ &= isa_.real->finite_row(plane_row(ch, y), w) != 0;
    if (image_.format == Pixels::INTERLEAVED) {
        float* to = static_cast<float*>(image_.at(0, y));
        for (int ch = 0; ch < c; ch++)
            for (size_t x = 0; x < w; x++) to[x * (size_t)c + (size_t)ch] = planes[(size_t)ch * w + x];
    } else if (image_.format == Pixels::BYTES) {
        isa_.real->bytes_row(planes, bytes_, w * (size_t)c);
        isa_.real->interleave_bytes(bytes_, w, c, image_.w, static_cast<uint8_t*>(image_.at(0, y)));
    }
}

}  // namespace lmbq
