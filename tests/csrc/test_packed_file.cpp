// SPDX-License-Identifier: Apache-2.0
// Networks from the bytes of packed files: sound ones, damaged ones, and those of strangers with a right checksum.
#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>

#include "support/packed.hpp"

using namespace lmbq_test;

namespace {

const std::vector<std::string>& files() {
    static const std::vector<std::string> all = corpus();
    return all;
}

void sound_files() {
    for (const std::string& file : files()) {
        const NetworkPointer network = open_any(file, "a sound file"), again = open_any(PackedFile(file).joined(), "put together");
        expect(network && again, "sound files open");
        if (network) run_small(network.get(), "a sound file");
        // other spaces and another order of the keys are the same header
        PackedFile other(file);
        std::string spaced;
        for (const char c : other.header) spaced += c == ':' ? std::string("  : ") : std::string(1, c);
        other.header = spaced;
        expect(open_any(other.joined(), "spaced") != nullptr, "a header with other spaces opens");
        std::vector<char> shifted(file.size() + 1);
        std::memcpy(shifted.data() + 1, file.data(), file.size());
        lmbq_network* odd = nullptr;
        expect(lmbq_network_open(shifted.data() + 1, file.size(), LMBQ_ISA_AUTO, &odd) == LMBQ_OK, "any alignment");
        lmbq_network_close(&odd);
    }
    lmbq_network_info info{};
    expect(lmbq_network_query(open_any(files()[2], "hybrid").get(), &info) == LMBQ_OK, "query");
    expect(info.channels == 3 && info.out_channels == 3 && info.upscale == 2, "what the hybrid network is");
    expect(lmbq_network_query(open_any(files()[3], "vdsr").get(), &info) == LMBQ_OK, "query");
    expect(info.channels == 1 && info.out_channels == 1 && info.upscale == 2 && info.sees_all, "what VDSR is");
}

void calls() {
    const std::string& file = files()[0];
    lmbq_network* network = nullptr;
    expect(lmbq_network_open(nullptr, 8, LMBQ_ISA_AUTO, &network) == LMBQ_INVALID && !network, "refuses no bytes");
    expect(lmbq_network_open(file.data(), file.size(), LMBQ_ISA_AUTO, nullptr) == LMBQ_INVALID, "refuses no place");
    expect(lmbq_network_open(file.data(), file.size(), 77, &network) == LMBQ_UNSUPPORTED && !network,
           "refuses an instruction set");
    lmbq_network_info info;
    uint8_t pixels[64] = {};
    expect(lmbq_network_query(nullptr, &info) == LMBQ_INVALID, "query refuses no network");
    expect(lmbq_network_run_bytes(nullptr, pixels, 3, pixels + 32, 6, 1, 1, 1, nullptr) == LMBQ_INVALID,
           "run refuses no network");
    lmbq_network_close(nullptr);
    lmbq_network_close(&network);
    const NetworkPointer open = open_any(file, "a sound file");
    expect(lmbq_network_run_bytes(open.get(), pixels, 2, pixels + 32, 6, 1, 1, 1, nullptr) == LMBQ_INVALID,
           "refuses a row that is too short");
    for (int isa : isas()) {
        expect(lmbq_network_open(file.data(), file.size(), isa, &network) == LMBQ_OK, "opens for each instruction set");
        lmbq_network_close(&network);
    }
}

// Each prefix, and each byte with a bit changed.
void damage() {
    for (const size_t i : {(size_t)2, (size_t)3}) {
        const std::string& file = files()[i];
        for (size_t size = 0; size < file.size(); size++)
            expect(!open_any(file.substr(0, size), "truncated"), "refuses the first " + std::to_string(size) + " bytes");
        expect(!open_any(file + '\0', "longer"), "refuses what follows the tensors");
        for (size_t at = 0; at < file.size(); at++) {
            std::string other = file;
            other[at] = (char)(other[at] ^ 1 << at % 8);
            expect(!open_any(other, "a bit"), "refuses a changed bit in byte " + std::to_string(at));
        }
    }
}

void refused(const std::string& bytes, const std::string& words) {
    const NetworkPointer network = open_any(bytes, words);
    expect(!network, "refuses: " + words);
    if (!network)
        expect(std::strstr(lmbq_last_error(), words.c_str()) != nullptr, "says: " + words);
}

void containers() {
    refused("", "truncated (0 bytes)");
    refused("1234567", "truncated");
    refused(std::string(8, '\xff'), "truncated");
    refused(container("{}", ""), "not one of lmb_quant.save()");
    refused(container("{} {}", ""), "something follows");
    refused(container("[]", ""), "Allowed: an object");
    refused(container("", ""), "a value is missing");
    refused(container(std::string(100, '{'), ""), "a key is missing");
    refused(container(std::string(100000, '['), ""), "nested too deeply");
    refused(container(std::string((16 << 20) + 1, ' '), ""), "not a safetensors file");
    refused(container("{\"a\": [0" + [] {
                std::string zeros;
                for (int i = 0; i < 1 << 20; i++) zeros += ",0";
                return zeros;
            }() + "]}", ""), "too many values");
    refused(container("{\"a\": 1, \"\\u0061\": 2}", ""), "is there twice");
    refused(container("{\"\xc3\": 1}", ""), "not UTF-8");
    refused(container("{\"\xed\xa0\x80\": 1}", ""), "not UTF-8");
    refused(container("{\"\xc0\xaf\": 1}", ""), "not UTF-8");
    refused(container("{\"\xf4\x90\x80\x80\": 1}", ""), "not UTF-8");
    refused(container(std::string("{\"a\0\": 1}", 9), ""), "a control character");
    refused(container("{\"\\ud800\": 1}", ""), "half a surrogate pair");
    refused(container("{\"\\udc00\": 1}", ""), "half a surrogate pair");
    refused(container("{\"\\x\": 1}", ""), "an escape is unknown");
    refused(container("{\"\\u12", ""), "hexadecimal");
    refused(container("{\"a", ""), "a string has no end");
    refused(container("{\"a\\", ""), "an escape is unknown");
    refused(container("{\"a\": 1e999}", ""), "too large");
    for (const char* value : {"01", "+1", "1.", ".5", "1e", "NaN", "Infinity", "-", "tru", "'a'", "", "1 2", "[1,]", "{\"a\":1,}"})
        expect(!open_any(container(std::string("{\"a\": ") + value + "}", ""), value), std::string("refuses ") + value);
    refused(container("{\"__metadata__\": {\"a\": 1}}", ""), "is no text");
    refused(container("{\"__metadata__\": {\"lmb_quant\": \"{}\"}}", ""), "'format_version' is missing");

    auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
        return container(std::string("{\"t\": {\"dtype\": \"") + dtype + "\", \"shape\": " + shape +
                         ", \"data_offsets\": " + offsets + "}}", "12345678");
    };
    refused(tensor("F31", "[2]", "[0, 8]"), "dtype: 'F31' is not allowed");
    refused(tensor("F32", "[2]", "[0, 9]"), "within the data");
    refused(tensor("F32", "[2]", "[8, 0]"), "within the data");
    refused(tensor("F32", "[2]", "[0]"), "within the data");
    refused(tensor("F32", "[2]", "[-8, 0]"), "a list of whole numbers");
    refused(tensor("F32", "[2.0]", "[0, 8]"), "a list of whole numbers");
    refused(tensor("F32", "[3]", "[0, 8]"), "as many bytes as the shape has");
    refused(tensor("F32", "[4294967296, 4294967296, 4294967296]", "[0, 8]"), "as many bytes as the shape has");
    refused(tensor("F32", "[1]", "[0, 4]"), "end at byte 4 of 8");
    refused(tensor("F32", "[1]", "[4, 8]"), "gap at byte 0");
    refused(tensor("F32", "[2], \"more\": 1", "[0, 8]"), "unknown key 'more'");
    refused(container("{\"a\": {\"dtype\": \"U8\", \"shape\": [3], \"data_offsets\": [0, 3]}, "
                      "\"b\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [2, 4]}}", "1234"), "overlap");
    // half a million members: no time beyond that of sorting them
    std::string many = "{\"__metadata__\": {";
    for (int i = 0; i < 200000; i++) many += "\"" + std::to_string(i) + "\": \"\", ";
    refused(container(many + "\"a\": \"\"}}", ""), "not one of lmb_quant.save()");
}

// A binary layer of 256 inputs and one output, 2 x 31: of 6 kB, and with a dilation of 1024 it needs a gigabyte a thread.
std::string dilated(int dilation) {
    const std::string d = std::to_string(dilation), half = std::to_string(15 * dilation);
    PackedFile file(files()[2]);
    file.header = R"({"format_version": 4, "package_version": "0.1.0", "arch": null, "recipe": null, "layers": {"b": )"
                  R"({"in_channels": 256, "out_channels": 1, "kernel_size": [2, 31], "threshold": "none", "dilation": [)" + d +
                  ", " + d + "], \"padding\": [0, " + half + ", " + d + ", " + half +
                  R"(]}}, "stages": [{"kind": "conv", "layer": "a", "in_channels": 3, "out_channels": 256, )"
                  R"("kernel_size": 1, "groups": 1, "bias": false, "skip": false, "act": {"kind": "none"}}, )"
                  R"({"kind": "binary", "layer": "b"}]})";
    file.tensors = {{"a.weight", "torch.float32", {256, 3, 1, 1}, std::string(256 * 3 * 4, '\0')},
                    {"b.weight_packed", "torch.uint8", {1, 2 * 31 * 32}, std::string(2 * 31 * 32, '\0')},
                    {"b.weight_scale", "torch.float32", {1}, std::string(4, '\0')}};
    return file.joined();
}

// Headers that say what is not allowed; the checksum is right.
void strangers() {
    const PackedFile hybrid(files()[2]), plus(files()[0]), vdsr(files()[3]);
    auto bad = [](PackedFile file, const char* from, const char* to, const char* words) {
        refused(file.replace(from, to).joined(), words);
    };
    bad(hybrid, "\"format_version\": 4", "\"format_version\": 5", "format_version: '5' is not known here");
    bad(hybrid, "\"format_version\": 4", "\"format_version\": 3", "lmb.save(lmb.load(path), path)");
    bad(hybrid, "\"format_version\": 4", "\"format_version\": 4.0", "is not known here");
    bad(hybrid, "\"package_version\": ", "\"package_version\": 7, \"more\": ", "unknown key 'more'");
    bad(hybrid, "\"arch\": {", "\"arch\": 7, \"recipe\": {", "is there twice");
    bad(hybrid, "\"encoded\": {}", "\"encoded\": {\"a\": {\"codec\": \"torchao.x\", \"words\": {}}}", "only Python reads it");
    bad(hybrid, "\"stages\": [", "\"stages\": null, \"x\": [", "unknown key");
    bad(hybrid, "\"conv_first\"", "\"conv_frist\"", "'conv_frist.weight' is missing");
    bad(hybrid, "\"bias\": true, \"groups\": 1, ", "\"groups\": 1, ", "'bias' is missing");
    bad(hybrid, "\"offset\": -0.5", "\"offset\": 1e39", "what float32 holds");
    bad(hybrid, "\"offset\": -0.5", "\"offset\": \"a\"", "Allowed: a number");
    bad(hybrid, "\"kind\": \"range\"", "\"kind\": \"rnage\"", "'rnage' is not allowed");
    bad(hybrid, "\"kind\": \"range\"", "\"kind\": 3", "kind: a word is missing");
    bad(hybrid, "\"kind\": \"range\", ", "\"kind\": \"range\", \"alpha\": 1, ", "unknown key 'alpha'");
    bad(hybrid, "\"layer\": \"body.0.conv\"", "\"layer\": \"body.9.conv\"", "Allowed: a name in layers");
    bad(hybrid, "\"upscale\": 2}, {", "\"upscale\": 4}, {", "stage");
    bad(vdsr, "\"value\": 1", "\"value\": 99", "other must be the number");
    bad(vdsr, "\"value\": 1", "\"value\": -1", "whole, 0 to");
    bad(vdsr, "\"bicubic\"", "\"nearest\"", "Allowed: bilinear, bicubic");
    bad(plus, "\"in_channels\": 8", "\"in_channels\": 9", "one shape");
    bad(plus, "\"in_channels\": 8", "\"in_channels\": 0", "whole, 1 to 65536");
    bad(plus, "\"in_channels\": 8", "\"in_channels\": 99999999999999999999", "whole, 1 to 65536");
    bad(plus, "\"groups\": 1", "\"groups\": 3", "a divisor of both");
    bad(plus, "\"kernel_size\": [3, 3]", "\"kernel_size\": [3]", "Allowed: 2 numbers");
    bad(plus, "\"kernel_size\": [3, 3]", "\"kernel_size\": [32, 3]", "1 to 31");
    bad(plus, "\"padding\": [1, 1, 1, 1]", "\"padding\": [2, 1, 1, 1]", "one shape");
    bad(plus, "\"stride\": [1, 1]", "\"stride\": [0, 1]", "1 to 1024");
    bad(plus, "\"threshold\": \"local\"", "\"threshold\": \"median\"", "Allowed: none, channel, local, global");
    bad(plus, "\"threshold\": \"local\"", "\"threshold\": \"none\"", "not local");
    bad(plus, "\"window\": 3", "\"window\": 4", "odd");
    bad(plus, "\"shift\": true", "\"shift\": 1", "true or false");
    bad(plus, "\"shift\": true", "\"shift\": false", "'body.0.conv1.threshold_shift' has no place");
    bad(plus, "\"act\": \"rprelu\"", "\"act\": \"tanh\"", "Allowed: none, relu");
    bad(plus, "\"slopes\": 8", "\"slopes\": 1", "out_channels");
    bad(plus, "\"act_on\": \"sum\"", "\"act_on\": \"both\"", "Allowed: branch, sum");
    bad(plus, "\"skip\": true", "\"skip\": true, \"more\": 1", "unknown key 'more'");

    PackedFile tail = hybrid;  // 4 inputs: the upper half of each byte is no channel's
    for (PackedFile::Tensor& tensor : tail.tensors)
        if (tensor.dtype == "torch.uint8") tensor.bytes[0] = (char)0x80;
    refused(tail.joined(), "tail bits");
    PackedFile foreign = hybrid;
    foreign.tensors.push_back({"more", "torch.float32", {0}, ""});
    refused(foreign.joined(), "'more' has no place");
    PackedFile unused = vdsr;
    unused.replace("{\"kind\": \"binary\", \"layer\": \"body.0\"}, ", "");
    refused(unused.joined(), "has no stage");
    PackedFile hostile = hybrid;
    hostile.replace("\"conv_first\"", "\"\\u001b[31m\\u00e9\"");
    refused(hostile.joined(), "\\x1b[31m\\xc3\\xa9");

    // A small file that asks for much memory.
    PackedFile large = plus;
    std::string stages;
    for (int i = 0; i < 20000; i++) stages += "{\"kind\": \"binary\", \"layer\": \"body.0.conv1\"}, ";
    large.replace("{\"kind\": \"binary\", \"layer\": \"body.0.conv1\"}, ", stages);
    const NetworkPointer opened = open_any(large.joined(), "20000 stages");
    expect(!opened, "refuses 20000 stages");
    expect(open_any(dilated(1), "dilation 1") != nullptr, "a kernel of 2 x 31");
    refused(dilated(1024), "more than 64 times the file's memory");
}

std::string any_word() {
    static const char* const kWords[] = {
        "0", "-1", "1", "2", "3", "4", "7", "15", "16", "64", "4096", "65536", "2147483648", "99999999999999999999", "0.5", "-0.0",
        "1e38", "1e-300", "null", "true", "false", "{}", "[]", "[1, 1]", "[3, 3, 3, 3]", "\"\"", "\"conv\"", "\"binary\"", "\"act\"",
        "\"add\"", "\"range\"", "\"shuffle\"", "\"upscale\"", "\"add_upscaled\"", "\"prelu\"", "\"rprelu\"", "\"relu\"", "\"silu\"",
        "\"none\"", "\"local\"", "\"global\"", "\"channel\"", "\"bicubic\"", "\"body.0.conv\"", "\"body.0.conv1\"", "\"body.0\"",
        "\"conv_first\"", "\"tail.0\"", "\"body.1.act.weight\"", "\"conv_first.bias\""};
    return kWords[rng() % (sizeof kWords / sizeof *kWords)];
}

// Where a JSON value begins, and its length: words, numbers, and lists and objects with all in them.
std::pair<size_t, size_t> any_value(const std::string& json) {
    for (int tries = 0; tries < 1000; tries++) {
        const size_t at = rng() % json.size();
        const char c = json[at];
        if (c == '{' || c == '[') {
            int depth = 0;
            for (size_t end = at; end < json.size(); end++) {
                depth += (json[end] == '{' || json[end] == '[') - (json[end] == '}' || json[end] == ']');
                if (depth == 0) return {at, end + 1 - at};
            }
        }
        if (c == '"' && at > 0 && json[at - 1] == ' ') return {at, json.find('"', at + 1) + 1 - at};
        if (at > 0 && json[at - 1] == ' ' && (c == '-' || (c >= '0' && c <= '9'))) return {at, json.find_first_of(",]}", at) - at};
    }
    return {0, json.size()};
}

// A header with values exchanged, stages moved, doubled or left out; what opens must run.
void mutations(int cases) {
    int opened = 0;
    for (int i = 0; i < cases; i++) {
        rng.seed((unsigned)i);
        PackedFile file(files()[rng() % files().size()]);
        for (int edits = pick(1, 3); edits > 0; edits--) {
            const auto [at, length] = any_value(file.header);
            if (length == std::string::npos || at + length > file.header.size()) continue;
            const std::string value = file.header.substr(at, length);
            switch (rng() % 4) {
                case 0: file.header.replace(at, length, any_word()); break;
                case 1: file.header.insert(at, value + ", "); break;
                case 2: file.header.erase(at, length + (file.header.compare(at + length, 2, ", ") == 0 ? 2 : 0)); break;
                default: {
                    const auto [other, size] = any_value(file.header);
                    if (other + size <= file.header.size()) file.header.replace(at, length, file.header.substr(other, size));
                }
            }
            if (file.header.size() < 4) break;
        }
        if (rng() % 4 == 0 && !file.tensors.empty()) {
            PackedFile::Tensor& tensor = file.tensors[rng() % file.tensors.size()];
            for (char& byte : tensor.bytes) byte = (char)rng();  // NaN among them
        }
        const std::string what = "mutation " + std::to_string(i);
        if (const NetworkPointer network = open_any(file.joined(), what)) {
            run_small(network.get(), what);
            opened++;
        }
    }
    expect(opened > cases / 50, "some mutations are sound");
}

void many_threads() {
    const NetworkPointer network = open_any(files()[2], "hybrid");
    const int h = 31, w = 17;
    std::vector<uint8_t> in((size_t)(h * w * 3)), want(in.size() * 4);
    for (uint8_t& v : in) v = (uint8_t)rng();
    auto run = [&](std::vector<uint8_t>& out, int threads) {
        return lmbq_network_run_bytes(network.get(), in.data(), w * 3, out.data(), w * 6, h, w, threads, nullptr) == LMBQ_OK;
    };
    expect(run(want, 1), "runs");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 12; i++) {
                std::vector<uint8_t> out(want.size());
                expect(run(out, 1 + (t + i) % 3) && out == want, "one network in several threads");
                expect(open_any(files()[(size_t)(t + i) % 4], "in a thread") != nullptr, "opening in several threads");
            }
        });
    for (std::thread& t : threads) t.join();
}

}  // namespace

int main() {
    sound_files();
    many_threads();
#if defined(__SANITIZE_THREAD__)  // all else is of one thread
    return report("packed_file");
#endif
    calls();
    damage();
    containers();
    strangers();
    mutations(3000);
    return report("packed_file");
}
