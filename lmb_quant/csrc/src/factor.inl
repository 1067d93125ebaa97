// SPDX-License-Identifier: Apache-2.0
// A factor for each pixel, min(max(weights . x + offset, 0), 1). The order of the additions is part of the definition.
// Included inside an anonymous namespace. The float vector V is that of binarize.inl; Quad has load, store, add, and
// transpose(q), four of them.

// Channel c's product in place c mod 16.
template <class V>
LMBQ_INLINE void factor_products(const float* p, const float* w, int C, float* to) {
    constexpr int n = 16 / V::lanes;
    V acc[n];
    for (V& a : acc) a = V::zero();
    int c = 0;
    for (; c + 16 <= C; c += 16)
#pragma GCC unroll 2
        for (int i = 0; i < n; i++) {
            const int at = c + i * V::lanes;
            acc[i] = add(acc[i], mul(V::load(p + at), V::load(w + at)));
        }
    for (int i = 0; c < C && i < n; i++, c += V::lanes) {
        const int left = C - c < V::lanes ? C - c : V::lanes;
        acc[i] = add(acc[i], mul(V::load_part(p + c, left), V::load_part(w + c, left)));
    }
#pragma GCC unroll 2
    for (int i = 0; i < n; i++) acc[i].store(to + i * V::lanes);
}

template <class V>
void factor_row(const FactorRow& r) {
    constexpr int kPixels = 4;
    const int C = r.channels, W = r.width;
    const float *p = r.x, *w = r.weights;
    const float offset = w[C];
    float* const out = r.out;
    alignas(64) float products[kPixels][16] = {}, sums[kPixels];
    for (int x = 0; x < W; x += kPixels) {
        const int pixels = W - x < kPixels ? W - x : kPixels;
        for (int i = 0; i < pixels; i++, p += C) factor_products<V>(p, w, C, products[i]);
        Quad q[kPixels];
#pragma GCC unroll 4
        for (int i = 0; i < kPixels; i++) {
            const float* s = products[i];
            q[i] = add(add(Quad::load(s), Quad::load(s + 8)), add(Quad::load(s + 4), Quad::load(s + 12)));
        }
        transpose(q);  // the halves of four pixels' sums at a time
        add(add(q[0], q[2]), add(q[1], q[3])).store(sums);
        for (int i = 0; i < pixels; i++) {
            const float f = sums[i] + offset;
            out[x + i] = f < 0 ? 0 : f > 1 ? 1 : f;
        }
    }
}
