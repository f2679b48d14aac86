// exp for vectors of neurons, and of little numbers.

SPIKELOOP_INLINE Vector<double> raised(const Vector<double>& x) { return exponential(x); }
SPIKELOOP_INLINE Vector<float> raised(Vector<float> x) {
    using V = Vector<float>;
    typedef int32_t Lanes __attribute__((vector_size(64)));
    const V low = V{} - 87.0f, high = V{} + 88.0f;
    x = x > low ? x : low, x = x < high ? x : high;
    const V shifted = x * 1.44269504f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    const V r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f, r2 = r * r;
    const V p = (1.0f + r) + r2 * ((0.5f + r * (1.0f / 6)) + r2 * ((1.0f / 24 + r * (1.0f / 120)) + r2 * (1.0f / 720)));
    Lanes bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    V power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// exp of small numbers: to 2e-5 at 0.5, to 1e-7 at 0.2.
SPIKELOOP_INLINE Vector<float> raised_a_little(const Vector<float>& x) {
    const Vector<float> x2 = x * x;
    return (1.0f + x) + x2 * ((0.5f + x * (1.0f / 6)) + x2 * (1.0f / 24 + x * (1.0f / 120)));
}
SPIKELOOP_INLINE Vector<double> raised_a_little(const Vector<double>& x) {
    const Vector<double> x2 = x * x;
    return (1.0 + x) + x2 * ((0.5 + x * (1.0 / 6)) + x2 * ((1.0 / 24 + x * (1.0 / 120)) + x2 * (1.0 / 720 + x * (1.0 / 5040))));
}
