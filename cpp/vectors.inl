// Vectors: memory, masks, and exp, log1p and the neuron's flow within two units in the last place of the scalar ones.

template <class T>
SPIKELOOP_INLINE Vector<T> load(const T* from) {
    Vector<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <class T>
SPIKELOOP_INLINE void store(T* to, const Vector<T>& x) {
    std::memcpy(to, &x, sizeof x);
}

// Has x in a register as it is: it is not loaded again, nor made part of another operation. Only a matter of speed and last places.
template <class V>
SPIKELOOP_INLINE void hold(V& x) {
#if SPIKELOOP_TARGET == 512
    asm("" : "+v"(x));
#else
    (void)x;
#endif
}

// Eight numbers in single precision.
typedef float Singles __attribute__((vector_size(32)));
SPIKELOOP_INLINE Singles singles(const Doubles& x) { return __builtin_convertvector(x, Singles); }
SPIKELOOP_INLINE Doubles doubles(const Singles& x) { return __builtin_convertvector(x, Doubles); }

// Doubles as eight numbers of type T.
template <class T>
SPIKELOOP_INLINE void store_as(T* to, const Doubles& x) {
    typedef T Eight __attribute__((vector_size(8 * sizeof(T))));
    const Eight eight = __builtin_convertvector(x, Eight);
    std::memcpy(to, &eight, sizeof eight);
}

// Does any lane of a comparison hold?
template <class Mask>
SPIKELOOP_INLINE bool any(const Mask& mask) {
#if SPIKELOOP_TARGET == 512
    return _mm512_test_epi64_mask(__m512i(mask), __m512i(mask)) != 0;
#endif
    typedef int64_t Half __attribute__((vector_size(32)));
    typedef int64_t Quarter __attribute__((vector_size(16)));
    Half half[2];
    static_assert(sizeof mask == sizeof half);
    std::memcpy(half, &mask, sizeof half);
    half[0] |= half[1];
    Quarter quarter[2];
    std::memcpy(quarter, half, sizeof quarter);
    quarter[0] |= quarter[1];
    return (quarter[0][0] | quarter[0][1]) != 0;
}

// One bit a lane of a comparison, of up to 16 lanes.
template <class Mask>
SPIKELOOP_INLINE uint32_t bits_of(const Mask& mask) {
    constexpr size_t kLane = sizeof mask[0], kSize = sizeof mask;
#if SPIKELOOP_TARGET == 512
    if constexpr (kSize == 64 && kLane == 4) return _mm512_movepi32_mask(__m512i(mask));
    if constexpr (kSize == 64 && kLane == 8) return _mm512_movepi64_mask(__m512i(mask));
#endif
#if SPIKELOOP_TARGET
    if constexpr (kSize == 16 && kLane == 4) return uint32_t(_mm_movemask_ps(__m128(mask)));
    if constexpr (kSize == 32 && kLane == 4) return uint32_t(_mm256_movemask_ps(__m256(mask)));
    if constexpr (kSize == 32 && kLane == 8) return uint32_t(_mm256_movemask_pd(__m256d(mask)));
    if constexpr (kSize == 64) {
        typedef std::remove_cvref_t<decltype(mask[0])> Lane;
        typedef Lane Half __attribute__((vector_size(32)));
        Half half[2];
        std::memcpy(half, &mask, sizeof half);
        return bits_of(half[0]) | bits_of(half[1]) << 32 / kLane;
    }
#endif
    if constexpr (kSize == 64)
        if (!any(mask)) return 0;
    uint32_t bits = 0;
    for (size_t l = 0; l < kSize / kLane; ++l) bits |= uint32_t(mask[l] != 0) << l;
    return bits;
}

// The vector with `number` in one lane.
template <class T>
SPIKELOOP_INLINE Vector<T> put(const Vector<T>& x, int lane, T number) {
    typedef decltype(x < x) Lane;
    Lane lanes;
    for (int l = 0; l < kLanes<T>; ++l) lanes[l] = l;
    return lanes == lane ? number - Vector<T>{} : x;
}

// The larger and the smaller of both, lane by lane.
template <class V>
SPIKELOOP_INLINE V larger(const V& x, const V& y) {
    return x > y ? x : y;
}

template <class V>
SPIKELOOP_INLINE V smaller(const V& x, const V& y) {
    return x < y ? x : y;
}

// The larger of x and 0.
template <class T>
SPIKELOOP_INLINE Vector<T> positive(const Vector<T>& x) {
    return larger(x, Vector<T>{});
}
#if SPIKELOOP_TARGET == 512  // or GCC makes two instructions of it
template <>
SPIKELOOP_INLINE Vector<float> positive<float>(const Vector<float>& x) {
    return Vector<float>(_mm512_max_ps(__m512(x), _mm512_setzero_ps()));
}
template <>
SPIKELOOP_INLINE Vector<double> positive<double>(const Vector<double>& x) {
    return Vector<double>(_mm512_max_pd(__m512d(x), _mm512_setzero_pd()));
}
#endif

// One bit a lane: does x reach y?
template <class T>
SPIKELOOP_INLINE uint32_t reaches(const Vector<T>& x, const Vector<T>& y) {
    return bits_of(x >= y);
}
#if SPIKELOOP_TARGET == 512  // or GCC makes several instructions of it
template <>
SPIKELOOP_INLINE uint32_t reaches<float>(const Vector<float>& x, const Vector<float>& y) {
    return _mm512_cmp_ps_mask(__m512(x), __m512(y), _CMP_GE_OQ);
}
template <>
SPIKELOOP_INLINE uint32_t reaches<double>(const Vector<double>& x, const Vector<double>& y) {
    return _mm512_cmp_pd_mask(__m512d(x), __m512d(y), _CMP_GE_OQ);
}
#endif

// Sixteen floats as integers: of the same sign.
typedef int32_t Signs __attribute__((vector_size(64)));
SPIKELOOP_INLINE bool all_negative(const Signs& x) {
#if SPIKELOOP_TARGET == 512
    return _mm512_movepi32_mask(__m512i(x)) == 0xffff;
#else
    return !any(x >= 0);
#endif
}

// The first `count` numbers of a row.
template <class T>
SPIKELOOP_INLINE void store_some(T* row, const Vector<T>& x, int count) {
    std::memcpy(row, &x, count * sizeof(T));
}
// Those, and zeros.
template <class T>
SPIKELOOP_INLINE Vector<T> load_some(const T* row, int count) {
    Vector<T> x{};
    std::memcpy(&x, row, count * sizeof(T));
    return x;
}
#if SPIKELOOP_TARGET == 512
template <>
SPIKELOOP_INLINE Vector<float> load_some(const float* row, int count) {
    return Vector<float>(_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), row));
}
template <>
SPIKELOOP_INLINE void store_some(float* row, const Vector<float>& x, int count) {
    _mm512_mask_storeu_ps(row, __mmask16((1u << count) - 1), __m512(x));
}
template <>
SPIKELOOP_INLINE Vector<double> load_some(const double* row, int count) {
    return Vector<double>(_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), row));
}
template <>
SPIKELOOP_INLINE void store_some(double* row, const Vector<double>& x, int count) {
    _mm512_mask_storeu_pd(row, __mmask8((1u << count) - 1), __m512d(x));
}
#endif

// The lanes of some bits, side by side; returns how many. What follows them, up to a whole vector, is lost.
template <class T>
SPIKELOOP_INLINE int store_picked(T* to, const Vector<T>& x, uint32_t bits) {
#if SPIKELOOP_TARGET == 512
    if constexpr (sizeof(T) == 8) {
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(__mmask8(bits), __m512i(x)));
        return __builtin_popcount(bits);
    }
#endif
    int count = 0;
    for (; bits; bits &= bits - 1) to[count++] = x[__builtin_ctz(bits)];
    return count;
}

// The part of a row that belongs to a block of neurons: all of its lanes, or the first `count`.
template <class T, bool Whole>
SPIKELOOP_INLINE Vector<T> load_block(const T* row, int count) {
    if constexpr (Whole)
        return load(row);
    else
        return load_some(row, count);
}
template <class T, bool Whole>
SPIKELOOP_INLINE void store_block(T* row, const Vector<T>& x, int count) {
    if constexpr (Whole)
        store(row, x);
    else
        store_some(row, x, count);
}

// The sum of all lanes, by halves.
template <class T>
SPIKELOOP_INLINE double total(const Vector<T>& x) {
    T part[kLanes<T>];
    store(part, x);
    for (int half = kLanes<T> / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) part[l] += part[l + half];
    return double(part[0]);
}
// The same of the first four, where the others are 0.
template <class T>
SPIKELOOP_INLINE double total_of_four(const Vector<T>& x) {
    T part[4];
    std::memcpy(part, &x, sizeof part);
    return double((part[0] + part[2]) + (part[1] + part[3]));
}
#if SPIKELOOP_TARGET
template <>
SPIKELOOP_INLINE double total<float>(const Vector<float>& x) {
#if SPIKELOOP_TARGET == 512
    const __m256 half[2] = {_mm512_maskz_extractf32x8_ps(0xff, __m512(x), 0), _mm512_maskz_extractf32x8_ps(0xff, __m512(x), 1)};
#else
    __m256 half[2];
    std::memcpy(half, &x, sizeof x);
#endif
    const __m256 eight = _mm256_add_ps(half[0], half[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return double(_mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))));
}
#endif

SPIKELOOP_INLINE Doubles all_of(double x) { return x - Doubles{}; }  // 0 + x would be computed, for it is not -0 where x is
template <class V>
SPIKELOOP_INLINE V magnitude(const V& x) {
    return x < 0 ? -x : x;
}
#if SPIKELOOP_TARGET == 512
SPIKELOOP_INLINE Doubles root(const Doubles& x) { return Doubles(_mm512_maskz_sqrt_pd(0xff, __m512d(x))); }
SPIKELOOP_INLINE Vector<float> root(const Vector<float>& x) { return Vector<float>(_mm512_maskz_sqrt_ps(0xffff, __m512(x))); }
#else
SPIKELOOP_INLINE Doubles root(const Doubles& x) {
    alignas(64) double values[kDoubles];
    store(values, x);
    for (double& value : values) value = __builtin_sqrt(value);
    return load(values);
}
SPIKELOOP_INLINE Vector<float> root(const Vector<float>& x) {
    alignas(64) float values[kLanes<float>];
    store(values, x);
    for (float& value : values) value = __builtin_sqrtf(value);
    return load(values);
}
#endif

SPIKELOOP_INLINE Singles root(const Singles& x) {
#if SPIKELOOP_TARGET
    return Singles(_mm256_sqrt_ps(__m256(x)));
#else
    alignas(32) float values[kDoubles];
    std::memcpy(values, &x, sizeof x);
    for (float& value : values) value = __builtin_sqrtf(value);
    Singles found;
    std::memcpy(&found, values, sizeof found);
    return found;
#endif
}

// exp(x) as 2^n (1 + rest), rest = exp(x - n ln 2) - 1 by its series; below -708 the smallest normal number.
struct Exponential {
    Doubles power, rest;
    SPIKELOOP_INLINE Doubles value() const { return power + power * rest; }
    SPIKELOOP_INLINE Doubles below_one() const { return (1.0 - power) - power * rest; }  // 1 - exp(x), of small ones, too
};

SPIKELOOP_INLINE Exponential exponential_of(Doubles x) {
    constexpr double kShift = 0x1.8p52;  // adding it rounds to a whole number, found in the lowest bits
    x = larger(smaller(x, all_of(709.0)), all_of(-708.0));
    const Doubles shifted = x * 0x1.71547652b82fep0 + kShift, n = shifted - kShift;
    const Doubles r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    const Doubles r2 = r * r, r4 = r2 * r2;
    const Doubles p0 = r + r2 * (0.5 + r * (1.0 / 6)), p1 = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const Doubles p2 = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    Integers bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    Exponential found;
    std::memcpy(&found.power, &bits, sizeof bits);
    found.rest = p0 + r4 * (p1 + r4 * (p2 + r4 * (1.0 / 479001600)));
    return found;
}

SPIKELOOP_INLINE Doubles exponential(const Doubles& x) { return exponential_of(x).value(); }

// log(1 + y) for y > -1, 1 + y as 2^k m, m from sqrt(1/2) to sqrt(2).
SPIKELOOP_INLINE Doubles log_one_plus(const Doubles& y) {
    const Doubles u = 1.0 + y;
    Doubles m;
    Vector<uint64_t> bits;  // unsigned: of lanes where u is out of range nothing is asked, but they must not overflow
    std::memcpy(&bits, &u, sizeof bits);
    const Integers k = Integers(bits - 0x3fe6a09e667f3bcd) >> 52;
    bits -= Vector<uint64_t>(k) << 52;
    std::memcpy(&m, &bits, sizeof m);
    const Doubles s = (k == 0 ? y : m - 1.0) / (m + 1.0), z = s * s, z2 = z * z, z4 = z2 * z2;
    const Doubles low = (1.0 + z * (1.0 / 3)) + z2 * (1.0 / 5 + z * (1.0 / 7)), middle = (1.0 / 9 + z * (1.0 / 11)) + z2 * (1.0 / 13 + z * (1.0 / 15));
    const Doubles sum = low + z4 * (middle + z4 * ((1.0 / 17 + z * (1.0 / 19)) + z2 * (1.0 / 21)));
    return 2.0 * s * sum + __builtin_convertvector(k, Doubles) * 0x1.62e42fefa39efp-1;
}

struct Flows {
    Doubles em, es, g;
};

// 1 / tau_mem and 1 / tau_syn of eight neurons.
struct Rates {
    Doubles a, b;
    int ratio = 0;                // b / a where it is the same whole number, up to 4, for all of them
    Doubles share = a / (b - a);  // not asked for where that is infinite
};

// `flow` of lif.hpp, lane by lane. With a whole ratio exp(-b dt) is a power of exp(-a dt), and one exponential is enough.
SPIKELOOP_INLINE Flows flows(const Doubles& dt, const Rates& n) {
    const Exponential decay = exponential_of(-n.a * dt);
    const Doubles em = decay.value();
    if (n.ratio == 0) {
        const Doubles x = (n.b - n.a) * dt, y = magnitude(x), es = exponential(-n.b * dt);
        const Doubles near = (x >= 0 ? em : es) * n.a * dt * phi_series(y), far = n.share * (em - es);
        return {em, es, y < 0.125 ? near : far};
    }
    if (n.ratio == 1) return {em, em, em * n.a * dt};
    const Doubles lost = em * decay.below_one(), square = em * em;  // em - es = em (1 - em) (1 + ... + em^(ratio - 2))
    if (n.ratio == 2) return {em, square, lost};
    if (n.ratio == 3) return {em, square * em, n.share * (lost * (1.0 + em))};
    return {em, square * square, n.share * (lost * (1.0 + em + square))};
}
