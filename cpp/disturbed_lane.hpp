// One disturbed neuron while a sample passes: its threshold of the moment, its hold, its noise.
#pragma once
#include "disturbed.hpp"

namespace spikeloop {

struct Lane {
    Neuron neuron;
    double free = 0, base = 0;  // base: the threshold without its noise
    Noise noise;
    Stream sampling;  // draws what samples see, so that sampling changes no spike
    NoisePath sampled;
    int64_t unit = 0, fired = 0, sample = 0, limit = 0;
    bool sends = true;

    void start(const Neurons& neurons, const Disturbance& d, const Request& request, int64_t which, int64_t m) {
        neuron = neurons[m], base = neuron.threshold, unit = m, sample = which, limit = request.spike_limit;
        free = 0, fired = 0;
        sends = !(request.silent && request.silent[sample * neurons.size + m]);
        noise = Noise{}, sampled = NoisePath{};
        noise.rms = d.noise[m], noise.threshold_rms = d.threshold_noise[m];
        const uint64_t own = keyed(keyed(d.key, uint64_t(sample)), uint64_t(m));
        noise.random.key = keyed(own, 0), sampling = Stream{keyed(own, 1)};
        if (noise.rms > 0 && !neuron.rises_to_threshold()) noise.path.x = noise.rms * noise.random.normal();
        draw_threshold();
    }

    void draw_threshold() {
        if (noise.threshold_rms > 0) neuron.threshold = base + noise.threshold_rms * noise.random.normal();
    }

    // The value of the bound at which the neuron has to be looked at.
    float level(double now) const {
        if (free > now) return -std::numeric_limits<float>::infinity();
        if (!(neuron.threshold < kInfinity)) return std::numeric_limits<float>::infinity();
        const double scale = std::max(std::abs(neuron.threshold), std::abs(neuron.reset));
        return float(neuron.threshold - 1e-5 * scale - kNoiseReach * noise.rms);
    }

    // From `begin` to `end` without arrivals; whether the sweep's own values do not hold.
    bool follow(State& s, double begin, double end, std::vector<Spike>& spikes) {
        const bool was_held = free > begin;
        const int64_t before = fired;
        const auto on_spike = [&](double time) {
            count_spike();
            if (sends) spikes.push_back({time, int32_t(unit)});
            return true;
        };
        if (noise.rms > 0)
            advance_noisy(neuron, s, noise, begin, end, on_spike);
        else if (noise.threshold_rms > 0)
            advance_redrawn(s, begin, end, on_spike);
        else
            advance(neuron, s, begin, end, true, on_spike);
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
        noise.rms > 0 ? advance_noisy(neuron, s, noise, begin, end, on_spike) : advance(neuron, s, begin, end, true, on_spike);
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
        free = s.free, noise.path = {0.0, free};
        count_spike();
    }

    // The membrane's noise that a sample at `time` sees.
    double seen(double time) {
        if (!(noise.rms > 0) || free > time) return 0;
        if (noise.path.time >= sampled.time) sampled = noise.path;
        sampled.bring(time, neuron.a, noise.rms, sampling);
        return sampled.x;
    }

  private:
    void count_spike() {
        if (++fired > limit) throw Explosion(sample, unit);
        draw_threshold();
    }

    // `advance` follows one neuron; a threshold that changes at a spike makes the rest another one's.
    template <class OnSpike>
    void advance_redrawn(State& s, double begin, double end, OnSpike&& on_spike) {
        for (double t = begin; t < end;) {
            double spiked = -1;
            advance(neuron, s, t, end, true, [&](double time) {
                spiked = time;
                return false;
            });
            if (spiked < 0) return;
            on_spike(spiked);
            t = spiked;
        }
    }
};

}  // namespace spikeloop
