// SPDX-License-Identifier: Apache-2.0
// A factor for each pixel, min(max(weights . x + offset, 0), 1). The order of the additions is part of the definition.
// Included inside an anonymous namespace. The float vector V is that of binarize.inl.

template <class V>
void factor_row(const FactorRow& r) {
    constexpr int kSums = 16, n = kSums / V::lanes;
    const int C = r.channels, W = r.width;
    const float *p = r.x, *w = r.weights;
    const float offset = w[C];
    float* const out = r.out;
    for (int x = 0; x < W; x++, p += C) {
        V acc[n];
        for (V& a : acc) a = V::zero();
        int c = 0;
        for (; c + kSums <= C; c += kSums)
            for (int i = 0; i < n; i++) {
                const int at = c + i * V::lanes;
                acc[i] = add(acc[i], mul(V::load(p + at), V::load(w + at)));
            }
        for (int i = 0; c < C && i < n; i++, c += V::lanes) {
            const int left = C - c < V::lanes ? C - c : V::lanes;
            acc[i] = add(acc[i], mul(V::load_part(p + c, left), V::load_part(w + c, left)));
        }
        float s[kSums];
        for (int i = 0; i < n; i++) acc[i].store(s + i * V::lanes);
        for (int half = kSums / 2; half; half /= 2)
            for (int i = 0; i < half; i++) s[i] += s[i + half];
        const float f = s[0] + offset;
        out[x] = f < 0 ? 0 : f > 1 ? 1 : f;
    }
}
