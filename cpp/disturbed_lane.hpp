// One disturbed neuron while a sample passes: its threshold of the moment, its hold, its noise.
#pragma once
#include "disturbed.hpp"
#include "threads.hpp"

namespace spikeloop {

// Samples of one neuron within an interval, taken in order.
struct Samples {
    const double* time = nullptr;
    int64_t count = 0;
    double* value = nullptr;
    int64_t stride = 0;
    double leak = 0;

    template <class Membrane>
    void until(double end, bool inclusive, Membrane&& v) {
        for (; count > 0 && (*time < end || (inclusive && *time == end)); --count, ++time, value += stride) *value = v(*time) + leak;
    }
};

// A stretch of a noisy membrane's way, from t for `length`; its noise would be x1 after `step`.
struct NoisyStretch {
    double t, length, step, v, i, x0, x1;
    bool held;   // at reset
    bool drawn;  // else the membrane is far from its threshold, and its noise unknown
};

// The value of a free neuron's bound at which it has to be looked at; `rms` of its noise.
inline float look_from(const Neuron& n, double rms) {
    if (!(n.threshold < kInfinity)) return std::numeric_limits<float>::infinity();
    return float(n.threshold - 1e-5 * std::max(std::abs(n.threshold), std::abs(n.reset)) - kNoiseReach * rms);
}

// Room for the spikes of a batch, this thread's own: what an earlier call left there is gone.
inline SpikesPerSample& room_for(int64_t batch) {
    auto& spikes = own<SpikesPerSample>();
    spikes.resize(batch);
    for (auto& sample : spikes) sample.clear();
    return spikes;
}

struct Lane {
    Neuron neuron;
    double free = 0, base = 0;  // base: the threshold without its noise
    Noise noise;
    Stream sampling;  // see `seen_by_samples`
    NoisePath sampled;
    int64_t unit = 0, fired = 0, sample = 0, limit = 0;
    bool sends = true;

    // `stride` is kept by the caller.
    void start(const Neuron& n, const Stride& stride, const Disturbance& d, const Request& request, int64_t which, uint64_t sample_key, int64_t m, int64_t size) {
        neuron = n, base = neuron.threshold, unit = m, sample = which, limit = request.spike_limit;
        free = 0, fired = 0;
        sends = !(request.silent && request.silent[sample * size + m]);
        noise = Noise{}, sampled = NoisePath{};
        noise.stride = &stride;
        noise.rms = d.noise[m], noise.threshold_rms = d.threshold_noise[m];
        noise.random = d.random(sample_key, m), sampling = seen_by_samples(noise.random);
        if (neuron.rises_to_threshold()) noise.path.time = 0;  // starts at reset
        draw_threshold();
    }

    void draw_threshold() {
        if (noise.threshold_rms > 0) neuron.threshold = base + noise.threshold_rms * noise.random.normal();
    }

    // The value of the bound at which the neuron has to be looked at.
    float level(double now) const { return free > now ? -std::numeric_limits<float>::infinity() : look_from(neuron, noise.rms); }

    void count_spikes(int number) {
        if ((fired += number) > limit) throw Explosion(sample, unit);
    }

    void spike(double time, std::vector<Spike>& spikes) {
        count_spike();
        if (sends) spikes.push_back({time, int32_t(unit)});
    }

    // Without noise on its membrane from `begin` to `end`, one spike after the other: a threshold may change at a spike, and
    // samples in between are taken. Whether the sweep's own values do not hold.
    bool follow(State& s, double begin, double end, std::vector<Spike>& spikes, Samples& samples) {
        const bool was_held = free > begin;
        const int64_t before = fired;
        for (double t = begin, until = begin; t < end; t = until) {
            const State from = s;
            bool fires = false;
            until = end;
            advance(neuron, s, t, end, true, [&](double time) {
                fires = true, until = time;
                return false;
            });
            samples.until(until, !fires, [&](double time) { return membrane_at(neuron, from, t, time, 0); });
            if (fires) spike(until, spikes);
        }
        free = s.free;
        return was_held || fired > before;
    }

    // The first spike from `begin` on, negative if there is none before `end`, where it is brought to in that case.
    double first_spike(State& s, double begin, double end) {
        double found = -1;
        const auto on_spike = [&](double time) {
            found = time;
            return false;
        };
        if (noise.rms > 0)
            advance_noisy(neuron, s, noise, begin, end, on_spike);
        else
            advance(neuron, s, begin, end, true, on_spike);
        free = s.free;
        return found;
    }

    // From `begin` to a spike of somebody else at `end`.
    void drift(State& s, double begin, double end) const {
        advance(neuron, s, begin, end, false, [](double) { return true; });
    }

    // From `begin` to a spike of its own at `time`.
    void fire(State& s, double begin, double time) {
        s = {neuron.reset, s.i * std::exp(-neuron.b * (time - begin)), time + neuron.refractory};
        free = s.free, noise.path.x = 0, noise.path.time = free;
        count_spike();
    }

    // The membrane's noise that a sample at `time` sees.
    double seen(double time) {
        if (!(noise.rms > 0) || free > time) return 0;
        if (noise.path.time >= sampled.time) sampled = noise.path;
        sampled.bring(time, neuron.a, noise.rms, sampling);
        return sampled.x;
    }

    // Takes the samples of a stretch of its way.
    void see(const NoisyStretch& x, Samples& samples) {
        samples.until(x.t + x.length, true, [&](double time) {
            if (x.held) return x.v;
            const Flow f = flow(time - x.t, neuron.a, neuron.b);
            const double v = x.v * f.em + x.i * f.g;
            if (!x.drawn) return v + seen(time);
            const double part = std::min((time - x.t) / x.step, 1.0), spread = 2 * noise.rms * noise.rms * neuron.a * x.step;
            return v + x.x0 + (x.x1 - x.x0) * part + std::sqrt(spread * part * (1 - part)) * sampling.normal();
        });
    }

  private:
    void count_spike() {
        count_spikes(1);
        draw_threshold();
    }
};

}  // namespace spikeloop
