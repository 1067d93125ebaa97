// SPDX-License-Identifier: Apache-2.0
#include "packed_file/json.hpp"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

#include "error.hpp"
#include "packed_file/sha256.hpp"

#if defined(LMBQ_WASM)
// JavaScript's Number(): a C++ library's streams would be as large as the engine.
extern "C" __attribute__((import_module("host"), import_name("number"))) double lmbq_host_number(const char* text, size_t size);
#endif

namespace lmbq {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

int hex(char c) {
    return digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The length of the UTF-8 character at `at`, 0 if it is none: too short, too long, a surrogate, beyond U+10FFFF.
size_t character(std::string_view s, size_t at) {
    const auto byte = [&](size_t i) { return i < s.size() ? (unsigned char)s[i] : 0u; };
    const unsigned first = byte(at), second = byte(at + 1);
    const size_t length = first < 0x80   ? 1
                          : first < 0xC2 ? 0
                          : first < 0xE0 ? 2
                          : first < 0xF0 ? 3
                          : first < 0xF5 ? 4
                                         : 0;
    for (size_t i = 1; i < length; i++)
        if (byte(at + i) >> 6 != 2) return 0;
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
    if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
    return length;
}

uint32_t code_point(std::string_view s, size_t at, size_t length) {
    uint32_t code = (unsigned char)s[at] & (length == 1 ? 0x7F : 0x7F >> length);
    for (size_t i = 1; i < length; i++) code = code << 6 | ((unsigned char)s[at + i] & 0x3F);
    return code;
}

void append_utf8(std::string& to, uint32_t code) {
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char kFirst[] = {0, 0xC0, 0xE0, 0xF0};
    to += (char)(kFirst[more] | code >> 6 * more);
    for (int i = more - 1; i >= 0; i--) to += (char)(0x80 | (code >> 6 * i & 0x3F));
}

uint32_t four_hex(std::string_view s, size_t at) {
    uint32_t code = 0;
    for (size_t i = at; i < at + 4; i++) code = code << 4 | (uint32_t)hex(s[i]);
    return code;
}

std::string unescaped(std::string_view s) {
    std::string out;
    out.reserve(s.size());
    for (size_t i = 0; i < s.size(); i++) {
        if (s[i] != '\\') {
            out += s[i];
            continue;
        }
        switch (s[++i]) {
            case 'b': out += '\b'; break;
            case 'f': out += '\f'; break;
            case 'n': out += '\n'; break;
            case 'r': out += '\r'; break;
            case 't': out += '\t'; break;
            case 'u': {
                uint32_t code = four_hex(s, i + 1);
                i += 4;
                if (code >= 0xD800 && code < 0xDC00) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (four_hex(s, i + 3) - 0xDC00);
                    i += 6;
                }
                append_utf8(out, code);
                break;
            }
            default: out += s[i];
        }
    }
    return out;
}

// The lowest `digits` hexadecimal digits.
std::string hex_digits(uint32_t value, int digits) {
    std::string out;
    while (digits--) out += "0123456789abcdef"[value >> (4 * digits) & 15];
    return out;
}

// The number that is written, whatever locale the program has.
double read_number(std::string_view text) {
#if defined(LMBQ_WASM)
    return lmbq_host_number(text.data(), text.size());
#else
    std::istringstream in{std::string(text)};
    in.imbue(std::locale::classic());
    double value = 0;
    in >> value;
    // Too large: the stream gives the largest number and fails; too small: 0 or a denormal number, which is right.
    return in.fail() && std::fabs(value) >= 1 ? HUGE_VAL : value;
#endif
}

bool is_integer(std::string_view text) { return text.find_first_of(".eE") == std::string_view::npos; }

}  // namespace

class Json::Parser {
public:
    Parser(Json& json, const char* what) : text_(json.text_), nodes_(json.nodes_), what_(what) {}

    void run() {
        space();
        value(0);
        space();
        if (at_ != text_.size()) fail("something follows the value");
    }

private:
    [[noreturn]] void fail(const char* why) const {
        throw Error(LMBQ_BAD_FILE, std::string(what_) + ": damaged JSON at byte " + std::to_string(at_) + ": " + why);
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool take(char c) {
        if (at_ >= text_.size() || text_[at_] != c) return false;
        at_++;
        return true;
    }
    void space() {
        while (at_ < text_.size() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) at_++;
    }

    void value(int depth) {
        if (depth > Json::kMaxDepth) fail("it is nested too deeply");
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return string();
            case 't': return word("true", Json::TRUE);
            case 'f': return word("false", Json::FALSE);
            case 'n': return word("null", Json::NOTHING);
            default: return number();
        }
    }

    uint32_t open(Json::Kind kind) {
        if (nodes_.size() >= Json::kMaxValues) fail("it has too many values");
        nodes_.push_back({(uint32_t)at_, 0, 0, 0, kind});
        return (uint32_t)nodes_.size() - 1;
    }
    void close(uint32_t node, size_t end, uint32_t count = 0) {
        nodes_[node].end = (uint32_t)end;
        nodes_[node].next = (uint32_t)nodes_.size();
        nodes_[node].count = count;
    }

    void object(int depth) {
        const uint32_t node = open(Json::OBJECT);
        uint32_t count = 0;
        at_++;
        space();
        if (!take('}')) do {
                space();
                if (peek() != '"') fail("a key is missing");
                string();
                space();
                if (!take(':')) fail("a colon is missing");
                space();
                value(depth + 1);
                space();
                count++;
            } while (take(',') || closes('}'));
        close(node, at_, count);
        check_keys(node);
    }

    void array(int depth) {
        const uint32_t node = open(Json::ARRAY);
        uint32_t count = 0;
        at_++;
        space();
        if (!take(']')) do {
                space();
                value(depth + 1);
                space();
                count++;
            } while (take(',') || closes(']'));
        close(node, at_, count);
    }

    // False where the bracket is there; there is no third.
    bool closes(char bracket) {
        if (!take(bracket)) fail("a comma or a closing bracket is missing");
        return false;
    }

    void string() {
        at_++;
        const uint32_t node = open(Json::STRING);
        while (!take('"')) {
            if (at_ >= text_.size()) fail("a string has no end");
            if ((unsigned char)peek() < 0x20) fail("a control character is in a string");
            if (take('\\')) {
                escape();
                continue;
            }
            const size_t length = character(text_, at_);
            if (!length) fail("it is not UTF-8");
            at_ += length;
        }
        close(node, at_ - 1);
    }

    void escape() {
        if (peek() != 'u') {
            if (at_ >= text_.size() || std::string_view("\"\\/bfnrt").find(peek()) == std::string_view::npos)
                fail("an escape is unknown");
            at_++;
            return;
        }
        at_++;
        const uint32_t code = hex_code();
        if (code >= 0xDC00 && code < 0xE000) fail("half a surrogate pair");
        if (code >= 0xD800 && code < 0xDC00) {
            const bool pair = take('\\') && take('u');
            const uint32_t low = pair ? hex_code() : 0;
            if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
        }
    }

    uint32_t hex_code() {
        for (size_t i = at_; i < at_ + 4; i++)
            if (i >= text_.size() || hex(text_[i]) < 0) fail("an escape has no four hexadecimal digits");
        at_ += 4;
        return four_hex(text_, at_ - 4);
    }

    void word(std::string_view word, Json::Kind kind) {
        if (text_.substr(at_, word.size()) != word) fail("a value is missing");
        const uint32_t node = open(kind);
        at_ += word.size();
        close(node, at_);
    }

    void digits() {
        if (!digit(peek())) fail("a value is missing");
        while (digit(peek())) at_++;
    }

    void number() {
        const size_t begin = at_;
        const uint32_t node = open(Json::NUMBER);
        take('-');
        if (!take('0')) digits();
        if (take('.')) digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            digits();
        }
        close(node, at_);
        const std::string_view text = text_.substr(begin, at_ - begin);
        if (text.size() > 4096) fail("a number is too long");
        if (!is_integer(text) && !std::isfinite(read_number(text))) fail("a number is too large");
    }

    // No key twice: readers would differ in which one counts.
    void check_keys(uint32_t object) {
        const uint32_t count = nodes_[object].count;
        keys_.clear();
        for (uint32_t i = 0, node = object + 1; i < count; i++, node = nodes_[node + 1].next) {
            const std::string_view key = text_.substr(nodes_[node].begin, nodes_[node].end - nodes_[node].begin);
            keys_.push_back(key.find('\\') == key.npos ? std::string(key) : unescaped(key));
        }
        std::sort(keys_.begin(), keys_.end());
        const auto twin = std::adjacent_find(keys_.begin(), keys_.end());
        if (twin != keys_.end()) fail(("the key " + quoted(*twin) + " is there twice").c_str());
    }

    std::string_view text_;
    std::vector<Node>& nodes_;
    const char* what_;
    size_t at_ = 0;
    std::vector<std::string> keys_;
};

Json::Json(std::string_view text, const char* what) : text_(text) {
    if (text.size() > kMaxText) throw Error(LMBQ_BAD_FILE, std::string(what) + ": it is longer than 16 MiB");
    Parser(*this, what).run();
}

Json::Value Json::Value::after() const { return Value(json_, node().next); }
std::string_view Json::Value::text() const { return json_->text_.substr(node().begin, node().end - node().begin); }
std::string Json::Value::string() const { return unescaped(text()); }
double Json::Value::number() const { return read_number(text()); }

bool Json::Value::integer(int64_t* to) const {
    if (kind() != NUMBER || !is_integer(text())) return false;
    const bool minus = text()[0] == '-';
    const std::string_view digits = text().substr(minus ? 1 : 0);
    if (digits.size() > 18) return false;
    int64_t value = 0;
    for (char c : digits) value = 10 * value + (c - '0');
    *to = minus ? -value : value;
    return true;
}

std::vector<Json::Value> Json::Value::items() const {
    std::vector<Value> found;
    found.reserve(size());
    Value item(json_, at_ + 1);
    for (size_t i = 0; i < size(); i++, item = item.after()) found.push_back(item);
    return found;
}

std::vector<std::pair<std::string, Json::Value>> Json::Value::members() const {
    std::vector<std::pair<std::string, Value>> found;
    found.reserve(size());
    Value key(json_, at_ + 1);
    for (size_t i = 0; i < size(); i++) {
        const Value value(json_, key.at_ + 1);
        found.emplace_back(key.string(), value);
        key = value.after();
    }
    // UTF-8 sorts as its code points do.
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    return found;
}

void Json::Value::dump(Sha256& to, std::string_view but_for) const {
    const char* between = "";
    switch (kind()) {
        case NOTHING:
        case FALSE:
        case TRUE:
        case NUMBER: to.add(text()); break;
        case STRING: dump_string(to, string()); break;
        case ARRAY:
            to.add("[");
            for (const Value& item : items()) {
                to.add(between);
                item.dump(to);
                between = ", ";
            }
            to.add("]");
            break;
        case OBJECT:
            to.add("{");
            for (const auto& [key, value] : members()) {
                if (key == but_for && !but_for.empty()) continue;
                to.add(between);
                dump_string(to, key);
                to.add(": ");
                value.dump(to);
                between = ", ";
            }
            to.add("}");
    }
}

void dump_string(Sha256& to, std::string_view s) {
    std::string out = "\"";
    for (size_t i = 0; i < s.size();) {
        const size_t length = character(s, i);
        const uint32_t code = code_point(s, i, length);
        i += length;
        static const char kNamed[] = "\"\"\\\\\nn\rr\tt\ff\bb";
        const char* named = nullptr;
        for (const char* p = kNamed; *p; p += 2)
            if ((uint32_t)*p == code) named = p;
        if (named) {
            out += '\\';
            out += named[1];
        } else if (code >= 0x20 && code < 0x7F) {
            out += (char)code;
        } else if (code < 0x10000) {
            out += "\\u" + hex_digits(code, 4);
        } else {
            const uint32_t rest = code - 0x10000;
            out += "\\u" + hex_digits(0xD800 + (rest >> 10), 4) + "\\u" + hex_digits(0xDC00 + (rest & 0x3FF), 4);
        }
    }
    to.add(out + "\"");
}

std::string quoted(std::string_view text) {
    constexpr size_t kMost = 80;
    std::string out = "'";
    for (size_t i = 0; i < text.size() && i < kMost; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c < 0x7F) out += (char)c;
        else out += "\\x" + hex_digits(c, 2);
    }
    return out + (text.size() > kMost ? "..." : "") + "'";
}

}  // namespace lmbq
