// SPDX-License-Identifier: Apache-2.0
// Four floats, as factor.inl and gradients.inl want them, on x86. Included inside a file's own namespace: its flags differ.

struct Quad {
    __m128 v;
    static Quad load(const float* p) { return {_mm_loadu_ps(p)}; }
    static Quad set1(float x) { return {_mm_set1_ps(x)}; }
    void store(float* p) const { _mm_storeu_ps(p, v); }
};
LMBQ_INLINE Quad add(Quad a, Quad b) { return {_mm_add_ps(a.v, b.v)}; }
LMBQ_INLINE Quad mul(Quad a, Quad b) { return {_mm_mul_ps(a.v, b.v)}; }
LMBQ_INLINE void transpose(Quad (&q)[4]) { _MM_TRANSPOSE4_PS(q[0].v, q[1].v, q[2].v, q[3].v); }
