// Random numbers that are addressed, not drawn in turn, and the membrane's Ornstein-Uhlenbeck noise made from them.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "lif.hpp"

namespace spikeloop {

inline constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ull;

// A bijection of 64 bits whose output bits depend on all input bits (Stafford's variant 13 of the murmur3 finaliser).
inline uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// The stream `coordinate` of the stream `key`.
inline uint64_t keyed(uint64_t key, uint64_t coordinate) { return mixed(mixed(key + kGolden) ^ (coordinate * kGolden + kGolden)); }

// Layers of equal area under exp(-x^2 / 2), for drawing normal numbers quickly (Marsaglia & Tsang 2000).
struct Ziggurat {
    static constexpr int layers = 256;
    static constexpr double edge = 3.6541528853610088;     // where the tail begins
    static constexpr double area = 0.00492867323399;       // of each layer
    double x[layers + 1], y[layers + 1];
    Ziggurat() {
        x[0] = area / std::exp(-0.5 * edge * edge), x[1] = edge, x[layers] = 0;
        for (int k = 2; k < layers; ++k) x[k] = std::sqrt(-2 * std::log(area / x[k - 1] + std::exp(-0.5 * x[k - 1] * x[k - 1])));
        for (int k = 0; k <= layers; ++k) y[k] = std::exp(-0.5 * x[k] * x[k]);
    }
};
inline const Ziggurat kZiggurat;

struct Stream {
    uint64_t key = 0, count = 0;

    uint64_t word() { return mixed(key + kGolden * ++count); }
    double uniform() { return fraction(word()); }  // in (0, 1)
    double normal() {
        const uint64_t w = word();
        const int k = int(w & 255);  // the layer; bit 8 is the sign
        const double x = fraction(w) * kZiggurat.x[k];
        return x < kZiggurat.x[k + 1] ? negated(x, w & 256) : normal_at_edge(w);
    }

  private:
    static double fraction(uint64_t w) { return (double(int64_t(w >> 11)) + 0.5) * 0x1p-53; }  // signed: one instruction
    // -x where bit 8 is set: no branch, which would go wrong every other time.
    static double negated(double x, uint64_t bit) { return std::bit_cast<double>(std::bit_cast<uint64_t>(x) ^ (bit << 55)); }
    // One time in eighty, out of the way.
    __attribute__((noinline)) double normal_at_edge(uint64_t w) {
        const Ziggurat& z = kZiggurat;
        const int k = int(w & 255);
        const double x = fraction(w) * z.x[k];
        if (k == 0) return negated(tail(), w & 256);
        if (z.y[k] + uniform() * (z.y[k + 1] - z.y[k]) < std::exp(-0.5 * x * x)) return negated(x, w & 256);
        return normal();
    }
    double tail() {
        for (;;) {
            const double x = -std::log(uniform()) / Ziggurat::edge, y = -std::log(uniform());
            if (2 * y > x * x) return Ziggurat::edge + x;
        }
    }
};

// Inverse Gaussian of mean mu and shape lambda (Michael, Schucany & Haas 1976).
inline double inverse_gaussian(Stream& random, double mu, double lambda) {
    const double z = random.normal(), y = z * z, r = mu * y / (2 * lambda);
    const double x = mu / (1 + r + std::sqrt(r * (2 + r)));  // the smaller root, without cancellation
    return random.uniform() <= mu / (mu + x) ? x : mu * mu / x;
}

inline constexpr double kLongAgo = -1e6;  // seconds: noise of then says nothing about now

// 1 - exp(-x) for x >= 0, to 1e-11 of it: what noise forgets.
inline double forgotten(double x) {
    if (x > 0.25) return x < 40 ? -std::expm1(-x) : 1.0;
    const double high = 1.0 / 720 - x * (1.0 / 5040 - x * (1.0 / 40320 - x * (1.0 / 362880)));
    return x * (1 - x * (1.0 / 2 - x * (1.0 / 6 - x * (1.0 / 24 - x * (1.0 / 120 - x * high)))));
}

// Noise X of one membrane, tau_mem dX = -X dt + rms sqrt(2 tau_mem) dW, known at one time.
struct NoisePath {
    double x = 0, time = kLongAgo;
    double step = 0, decay = 1, kick = 0;  // of the last time it was brought on: samples follow each other in equal steps

    void bring(double to, double a, double rms, Stream& random) {
        if (!(to > time)) return;
        const double passed = to - time;
        if (std::abs(passed - step) > 1e-9 * passed) {
            const double lost = forgotten(a * passed);
            step = passed, decay = 1 - lost, kick = rms * std::sqrt(lost * (2 - lost));
        }
        x = x * decay + kick * random.normal();
        time = to;
    }
};

inline constexpr double kNoiseReach = 5;     // standard deviations below the threshold at which the path is drawn
inline constexpr double kNoiseSteps = 32;    // steps of the path per tau_mem

// How the path of a neuron is drawn: its longest step, the response's peak, the flow over the step, and what noise of rms 1
// gets in one.
struct Stride {
    double length, peak;
    Flow flow;
    double kick;
    explicit Stride(const Neuron& n)
        : length(1 / (n.a * kNoiseSteps)), peak(response_peak(n.a, n.b)), flow(spikeloop::flow(length, n.a, n.b)), kick(std::sqrt(1 - flow.em * flow.em)) {}
};

// What disturbs one neuron beside its parameters.
struct Noise {
    const Stride* stride = nullptr;
    double rms = 0;            // of the membrane
    double threshold_rms = 0;  // of the threshold, redrawn at every spike
    Stream random;
    NoisePath path;
};

// When a Brownian bridge of variance `spread` = sigma^2 step, `a` below the threshold now and `b` below it (or -b above)
// after `step`, first reaches the threshold; negative if it does not. With T the time, T / (step - T) is inverse Gaussian.
inline double bridge_crossing(double a, double b, double spread, double step, Stream& random) {
    if (a <= 0) return 0;
    if (b > 0) {
        const double far = 2 * a * b / spread;
        if (far > 40) return -1;
        const double chance = random.uniform();  // first against a bound on the exponential
        if (chance * (1 + far * (1 + far * (1.0 / 2 + far * (1.0 / 6)))) >= 1 || chance >= std::exp(-far)) return -1;
    }
    const double ratio = inverse_gaussian(random, a / std::max(std::abs(b), 1e-12 * a), a * a / spread);
    return step * ratio / (1 + ratio);
}

// The highest that v can be within the next `dt`, over which its flow is `f`.
inline double highest(const Neuron& n, const Stride& stride, const State& s, double dt, const Flow& f) {
    const double end_v = s.v * f.em + s.i * f.g;
    if (!(s.i > s.v && (s.i * f.es < end_v || s.i * f.es < kNothing))) return std::max(s.v, end_v);  // it does not turn: at one of the ends
    if (dt > stride.length) return maximum(s.v, s.i, dt, n.a, n.b).value;
    return std::max(s.v, s.v * f.em) + std::max(s.i, 0.0) * n.a * dt;
}

// The same without the flow, not as tight.
inline double roughly_highest(const Neuron& n, const Stride& stride, const State& s, double dt) {
    return std::max(s.v, 0.0) + (s.i > s.v ? std::max(s.i, 0.0) * std::min(stride.peak, n.a * dt) : 0.0);
}

// Does the noise, too, stay below `room` between t0 and t1, but for once in millions? From where it was last seen it needs time.
inline bool stays_below(const Neuron& n, const Noise& noise, double room, double t0, double t1) {
    const double x = noise.path.x, since = n.a * (t1 - noise.path.time), reach = kNoiseReach * noise.rms;
    room -= x > 0 ? x / (1 + n.a * (t0 - noise.path.time)) : x * std::max(1 - since, 0.0);
    return room > 0 && room * room > reach * reach * std::min(2 * since, 1.0);
}

// As `advance` (lif.hpp), with noise on the membrane: V = v + X, X starts again from 0 when V is released from reset. X is drawn
// only where V may reach the threshold. `noisy.inl` does the same for many.
template <class OnSpike>
inline void advance_noisy(const Neuron& n, State& s, Noise& noise, double t0, double t1, OnSpike&& spike) {
    const Flow whole = flow(t1 - t0, n.a, n.b);
    double t = t0;
    const Stride& stride = *noise.stride;
    while (t < t1) {
        if (s.free > t) {
            const double until = std::min(s.free, t1);
            s.i *= std::exp(-n.b * (until - t));
            t = until;
            continue;
        }
        const auto stays_below = [&](double most, double dt) { return n.threshold > 0 && spikeloop::stays_below(n, noise, n.threshold - most, t, t + dt); };
        const auto pass = [&](double dt, const Flow& f) {
            s.v = s.v * f.em + s.i * f.g, s.i *= f.es, t += dt;
        };
        const double rest = t1 - t, step = std::min(rest, stride.length);
        if (t == t0 ? stays_below(highest(n, stride, s, rest, whole), rest) : stays_below(roughly_highest(n, stride, s, rest), rest)) {
            pass(rest, t == t0 ? whole : flow(rest, n.a, n.b));
            return;
        }
        const bool full = step == stride.length;
        const Flow f = full ? stride.flow : t == t0 ? whole : flow(step, n.a, n.b);
        const double most = highest(n, stride, s, step, f);
        bool below = stays_below(most, step);
        if (!below && noise.path.time < t) noise.path.bring(t, n.a, noise.rms, noise.random), below = stays_below(most, step);
        if (below) {
            pass(step, f);
            continue;
        }
        const double x = noise.path.x;
        const double next_v = s.v * f.em + s.i * f.g;
        const double next_x = x * f.em + noise.rms * (full ? stride.kick : std::sqrt(1 - f.em * f.em)) * noise.random.normal();
        const double spread = 2 * noise.rms * noise.rms * n.a * step;
        const double wait = bridge_crossing(n.threshold - s.v - x, n.threshold - next_v - next_x, spread, step, noise.random);
        if (wait < 0) {
            t += step;
            s.v = next_v, s.i *= f.es, noise.path.x = next_x, noise.path.time = t;
            continue;
        }
        t += wait;
        s = {n.reset, s.i * std::exp(-n.b * wait), t + n.refractory};
        noise.path.x = 0, noise.path.time = s.free;
        if (!spike(t)) return;
    }
}

}  // namespace spikeloop
