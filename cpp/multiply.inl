// The passes themselves, see multiply.cpp.

inline void lay_out(Panels& panels, int64_t panel) {
    const Tile& tile = panels.tile;
    const int64_t first = panel * kPanel;
    const int width = panels.width(panel);
    for (int64_t row = 0; row < tile.rows; ++row) {
        const int8_t* weight = tile.weight + row * tile.columns + first;
        const float *excitatory = tile.synapse + 2 * row * tile.stride + first, *inhibitory = excitatory + tile.stride;
        float* __restrict out = panels.weight.data() + (panel * tile.rows + row) * kPanel;
        for (int c = 0; c < width; ++c) out[c] = float(weight[c]) * (weight[c] < 0 ? inhibitory[c] : excitatory[c]);
    }
    float* column = panels.column.data() + panel * kColumnArrays * kPanel;
    for (const float* from : {tile.gain, tile.offset, tile.below, tile.above}) std::copy_n(from + first, width, column), column += kPanel;
}

// How many samples have their sums in registers at once, and the lanes of these: wider vectors would not stay there, and are
// compared lane by lane.
#if SPIKELOOP_TARGET == 512
constexpr int kAtOnce = 12, kWidth = 16;
#elif SPIKELOOP_TARGET == 2
constexpr int kAtOnce = 6, kWidth = 8;
#else
constexpr int kAtOnce = 4, kWidth = 4;
#endif
typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));
typedef int32_t Bits __attribute__((vector_size(sizeof(Floats))));
typedef uint64_t Words __attribute__((vector_size(sizeof(Floats))));
typedef int8_t Bytes __attribute__((vector_size(kWidth)));

SPIKELOOP_INLINE Floats floats_at(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

SPIKELOOP_INLINE Floats root_of(const Floats& x) {
#if SPIKELOOP_TARGET == 512
    return Floats(_mm512_maskz_sqrt_ps(0xffff, __m512(x)));
#elif SPIKELOOP_TARGET == 2
    return Floats(_mm256_sqrt_ps(__m256(x)));
#else
    Floats out;
    for (int l = 0; l < kWidth; ++l) out[l] = __builtin_sqrtf(x[l]);
    return out;
#endif
}

// The natural logarithm of normal numbers.
SPIKELOOP_INLINE Floats logarithm(const Floats& x) {
    Bits bits = Bits(x);
    const Bits k = (bits - 0x3f3504f3) >> 23;  // x = 2^k m, m from sqrt(1/2) to sqrt(2)
    bits -= k << 23;
    const Floats m = Floats(bits), s = (m - 1.0f) / (m + 1.0f), z = s * s;
    return __builtin_convertvector(k, Floats) * 0x1.62e430p-1f + s * (2.0f + z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7))));
}

// As many numbers of a stream, two a word.
SPIKELOOP_INLINE Bits numbers(uint64_t key, uint64_t count) {
    Words w;
    for (int l = 0; l < kWidth / 2; ++l) w[l] = kGolden * uint64_t(l);
    w += key + kGolden * count;
    w = (w ^ (w >> 30)) * 0xbf58476d1ce4e5b9ull, w = (w ^ (w >> 27)) * 0x94d049bb133111ebull;  // as `mixed`
    return Bits(w ^ (w >> 31));
}

struct Normals {
    Floats first, second;
};

// Normal numbers (Box & Muller 1958) for columns `part` and `kPanel / 2 + part` and those beside them, out of the stream's words
// kPanel / 2 a panel: the first half of them is for the radius, the second for the angle.
SPIKELOOP_INLINE Normals normals(uint64_t key, int64_t panel, int part) {
    const uint64_t word = uint64_t(panel * (kPanel / 2) + part / 2 + 1);
    const Bits u = numbers(key, word) & 0x7fffffff, v = numbers(key, word + kPanel / 4);
    const Floats uniform = (__builtin_convertvector(u, Floats) + 0.5f) * 0x1p-31f;
    const Floats radius = Floats(Bits(root_of(-2.0f * logarithm(uniform))) ^ (v & int32_t(0x80000000)));  // half a turn
    const Floats x = (__builtin_convertvector((v & 0x3fffffff) - 0x20000000, Floats) + 0.5f) * 0x1.921fb6p-30f;
    const Floats z = x * x;  // of an angle up to an eighth of a turn
    const Floats sine = x * (1.0f + z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880)))));
    const Floats cosine = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320))));
    const auto across = (v & 0x40000000) != 0;  // mirrored at the diagonal
    return {radius * (across ? sine : cosine), radius * (across ? cosine : sine)};
}

// What is read of some sums; column: the first of the arrays of their panel.
SPIKELOOP_INLINE Bytes reading(const Tile& tile, const Floats& sum, const float* column, const Floats& noise) {
    const Floats zero{};
    Floats y = sum * floats_at(column) + floats_at(column + kPanel) + tile.noise * noise;
    const Floats over = y < tile.low ? y - tile.low : y > tile.high ? y - tile.high : zero;
    const Floats bent = (over < 0 ? -over * floats_at(column + 2 * kPanel) : over * floats_at(column + 3 * kPanel));
    y -= over * (bent / (1.0f + bent));  // as it is where nothing saturates
    y = y < -128.0f ? zero - 128.0f : y > 127.0f ? zero + 127.0f : y;
    const Bits whole = __builtin_convertvector(y, Bits);
    return __builtin_convertvector(whole + (__builtin_convertvector(whole, Floats) > y), Bytes);  // towards minus infinity
}

// Samples `sample` .. `sample + R` of a panel, pulses (R, rows).
template <int R>
void block(const Panels& panels, int64_t panel, const float* pulse, int64_t sample, int8_t* result) {
    const Tile& tile = panels.tile;
    const int64_t rows = tile.rows;
    alignas(64) float sums[R][kPanel];
    for (int part = 0; part < kPanel; part += 2 * kWidth) {
        const float* weight = panels.weight.data() + panel * rows * kPanel + part;
        Floats sum[R][2] = {};
        for (int64_t k = 0; k < rows; ++k, weight += kPanel) {
            const Floats w0 = floats_at(weight), w1 = floats_at(weight + kWidth);
            _Pragma("GCC unroll 16")
            for (int r = 0; r < R; ++r) sum[r][0] += pulse[r * rows + k] * w0, sum[r][1] += pulse[r * rows + k] * w1;
        }
        _Pragma("GCC unroll 16")  // an index that varies would keep the sums in memory
        for (int r = 0; r < R; ++r)
            std::memcpy(sums[r] + part, &sum[r][0], sizeof(Floats)), std::memcpy(sums[r] + part + kWidth, &sum[r][1], sizeof(Floats));
    }
    const float* column = panels.column.data() + panel * kColumnArrays * kPanel;
    const int width = panels.width(panel);
    for (int r = 0; r < R; ++r) {
        const uint64_t key = keyed(tile.key, uint64_t(sample + r));
        int8_t read[kPanel];
        for (int part = 0; part < kPanel / 2; part += kWidth) {
            Normals noise{};
            if (tile.noise > 0) noise = normals(key, panel, part);
            const int other = part + kPanel / 2;
            const Bytes bytes[2] = {reading(tile, floats_at(sums[r] + part), column + part, noise.first),
                                    reading(tile, floats_at(sums[r] + other), column + other, noise.second)};
            std::memcpy(read + part, &bytes[0], sizeof(Bytes)), std::memcpy(read + other, &bytes[1], sizeof(Bytes));
        }
        std::memcpy(result + r * tile.columns + panel * kPanel, read, width);
    }
}

// Samples first .. first + count.
inline void pass(const Panels& panels, const uint8_t* activation, int64_t first, int64_t count, int8_t* result) {
    const Tile& tile = panels.tile;
    std::vector<float>& pulses = own<std::vector<float>>();
    pulses.resize(count * tile.rows);
    for (int64_t s = 0; s < count; ++s) {
        const uint8_t* sent = activation + s * tile.rows;
        float* __restrict pulse = pulses.data() + s * tile.rows;
        for (int64_t k = 0; k < tile.rows; ++k) {
            const float length = float(sent[k]) + tile.pulse[k];
            pulse[k] = sent[k] != 0 && length > 0 ? length : 0.0f;
        }
    }
    for (int64_t panel = 0; panel < panels.count; ++panel)
        for (int64_t s = 0; s < count;) {
            const float* pulse = pulses.data() + s * tile.rows;
            int8_t* out = result + s * tile.columns;
            if (count - s >= kAtOnce)
                block<kAtOnce>(panels, panel, pulse, first + s, out), s += kAtOnce;
            else if (kAtOnce > 4 && count - s >= 4)
                block<4>(panels, panel, pulse, first + s, out), s += 4;
            else
                block<1>(panels, panel, pulse, first + s, out), s += 1;
        }
}
