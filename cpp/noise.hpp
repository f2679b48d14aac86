// Random numbers that are addressed, not drawn in turn, and the membrane's Ornstein-Uhlenbeck noise made from them.
#pragma once
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

struct Stream {
    uint64_t key = 0, count = 0;
    double spare = 0;
    bool has_spare = false;

    double uniform() { return (double(mixed(key + kGolden * ++count) >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)
    double normal() {
        if (has_spare) {
            has_spare = false;
            return spare;
        }
        const double radius = std::sqrt(-2 * std::log(uniform())), angle = 6.283185307179586 * uniform();
        spare = radius * std::sin(angle), has_spare = true;
        return radius * std::cos(angle);
    }
};

// Inverse Gaussian of mean mu and shape lambda (Michael, Schucany & Haas 1976).
inline double inverse_gaussian(Stream& random, double mu, double lambda) {
    const double z = random.normal(), y = z * z, r = mu * y / (2 * lambda);
    const double x = mu / (1 + r + std::sqrt(r * (2 + r)));  // the smaller root, without cancellation
    return random.uniform() <= mu / (mu + x) ? x : mu * mu / x;
}

// Noise X of one membrane, tau_mem dX = -X dt + rms sqrt(2 tau_mem) dW, known at one time.
struct NoisePath {
    double x = 0, time = 0;

    void bring(double to, double a, double rms, Stream& random) {
        if (!(to > time)) return;
        const double e = std::exp(-a * (to - time));
        x = x * e + rms * std::sqrt(1 - e * e) * random.normal();
        time = to;
    }
};

// What disturbs one neuron beside its parameters.
struct Noise {
    double rms = 0;            // of the membrane
    double threshold_rms = 0;  // of the threshold, redrawn at every spike
    Stream random;
    NoisePath path;
};

inline constexpr double kNoiseReach = 5;     // standard deviations below the threshold at which the path is drawn
inline constexpr double kNoiseSteps = 32;    // steps of the path per tau_mem

// When a Brownian bridge of variance `spread` = sigma^2 step, `a` below the threshold now and `b` below it (or -b above)
// after `step`, first reaches the threshold; negative if it does not. With T the time, T / (step - T) is inverse Gaussian.
inline double bridge_crossing(double a, double b, double spread, double step, Stream& random) {
    if (b > 0 && random.uniform() >= std::exp(-2 * a * b / spread)) return -1;
    if (a <= 0) return 0;
    const double ratio = inverse_gaussian(random, a / std::max(std::abs(b), 1e-12 * a), a * a / spread);
    return step * ratio / (1 + ratio);
}

// As `advance` (lif.hpp), with noise on the membrane: V = v + X, X starts again from 0 when V is released from reset.
template <class OnSpike>
inline void advance_noisy(Neuron& n, State& s, Noise& noise, double t0, double t1, OnSpike&& spike) {
    double t = t0;
    const double longest = 1 / (n.a * kNoiseSteps), reach = kNoiseReach * noise.rms;
    while (t < t1) {
        if (s.free > t) {
            const double until = std::min(s.free, t1);
            s.i *= std::exp(-n.b * (until - t));
            t = until;
            continue;
        }
        const double rest = t1 - t;
        if (n.threshold > 0 && std::max(s.v, 0.0) + std::max(s.i, 0.0) * std::min(1.0, n.a * rest) < n.threshold - reach) {
            const Flow f = flow(rest, n.a, n.b);
            s.v = s.v * f.em + s.i * f.g, s.i *= f.es;
            return;
        }
        noise.path.bring(t, n.a, noise.rms, noise.random);
        const double step = std::min(rest, longest), x = noise.path.x;
        const Flow f = flow(step, n.a, n.b);
        const double next_v = s.v * f.em + s.i * f.g;
        const double next_x = x * f.em + noise.rms * std::sqrt(1 - f.em * f.em) * noise.random.normal();
        const double spread = 2 * noise.rms * noise.rms * n.a * step;
        const double wait = bridge_crossing(n.threshold - s.v - x, n.threshold - next_v - next_x, spread, step, noise.random);
        if (wait < 0) {
            t += step;
            s.v = next_v, s.i *= f.es, noise.path = {next_x, t};
            continue;
        }
        t += wait;
        s = {n.reset, s.i * std::exp(-n.b * wait), t + n.refractory};
        noise.path = {0.0, s.free};
        if (!spike(t)) return;
    }
}

}  // namespace spikeloop
