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

// A comparison of vectors of T as one byte a lane, not zero where it holds.
template <class T, class Mask>
SPIKELOOP_INLINE void store_bytes(int8_t* to, const Mask& mask) {
    typedef int8_t Bytes __attribute__((vector_size(kLanes<T>)));
    const Bytes bytes = __builtin_convertvector(mask, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

// Calls `visit(lane)` for every byte that is not zero; `count` is a multiple of 8.
template <class Visit>
SPIKELOOP_INLINE void for_each_set(const int8_t* bytes, int count, Visit&& visit) {
    for (int first = 0; first < count; first += 8) {
        uint64_t word;
        std::memcpy(&word, bytes + first, sizeof word);
        while (word) {
            const int byte = __builtin_ctzll(word) / 8;
            word &= ~(uint64_t(0xff) << (8 * byte));
            visit(first + byte);
        }
    }
}

SPIKELOOP_INLINE Doubles all_of(double x) { return Doubles{} + x; }
SPIKELOOP_INLINE Doubles larger(Doubles x, Doubles y) { return x > y ? x : y; }
SPIKELOOP_INLINE Doubles smaller(Doubles x, Doubles y) { return x < y ? x : y; }
SPIKELOOP_INLINE Doubles magnitude(Doubles x) { return x < 0 ? -x : x; }
SPIKELOOP_INLINE Doubles root(const Doubles& x) {
    alignas(64) double values[kDoubles];
    store(values, x);
    for (double& value : values) value = __builtin_sqrt(value);
    return load(values);
}

// 2^n r with r = exp(x - n ln 2) by its series; below -708 the smallest normal number.
SPIKELOOP_INLINE Doubles exponential(Doubles x) {
    constexpr double kShift = 0x1.8p52;  // adding it rounds to a whole number, found in the lowest bits
    x = larger(smaller(x, all_of(709.0)), all_of(-708.0));
    const Doubles shifted = x * 0x1.71547652b82fep0 + kShift, n = shifted - kShift;
    const Doubles r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    const Doubles r2 = r * r, r4 = r2 * r2;
    const Doubles p0 = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6)), p1 = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const Doubles p2 = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    const Doubles p = p0 + r4 * (p1 + r4 * (p2 + r4 * (1.0 / 479001600)));
    Integers bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    Doubles power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

// log(1 + y) for y > -1.
SPIKELOOP_INLINE Doubles log_one_plus(const Doubles& y) {
    const Doubles u = 1.0 + y;
    Integers bits;
    std::memcpy(&bits, &u, sizeof bits);
    const Integers k = (bits - 0x3fe6a09e667f3bcd) >> 52;  // u = 2^k m, m from sqrt(1/2) to sqrt(2)
    bits -= k << 52;
    Doubles m;
    std::memcpy(&m, &bits, sizeof m);
    const Doubles s = (m - 1.0) / (m + 1.0), z = s * s;
    Doubles sum = all_of(1.0 / 21);
    for (int n = 19; n > 0; n -= 2) sum = sum * z + 1.0 / n;
    return (y - (u - 1.0)) / u + 2.0 * s * sum + __builtin_convertvector(k, Doubles) * 0x1.62e42fefa39efp-1;
}

struct Flows {
    Doubles em, es, g;
};

// `flow` of lif.hpp, lane by lane.
SPIKELOOP_INLINE Flows flows(const Doubles& dt, const Doubles& a, const Doubles& b) {
    const Doubles d = b - a, x = d * dt, y = magnitude(x), em = exponential(-a * dt), es = exponential(-b * dt);
    const Doubles near = (x >= 0 ? em : es) * a * dt * phi_series(y), far = a * (em - es) / d;
    return {em, es, y < 0.125 ? near : far};
}

