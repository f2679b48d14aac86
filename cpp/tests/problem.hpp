// A random population with its arrivals and everything that can be observed of it, in arrays of exactly the right length.
#pragma once
#include <algorithm>
#include <random>

#include "dense.hpp"
#include "queue.hpp"

namespace spikeloop::tests {

struct Batch {
    std::vector<double> time;
    std::vector<int32_t> unit;
    std::vector<int64_t> start{0};
    Trains trains() const { return {time.data(), unit.data(), start.data()}; }
    int64_t size() const { return int64_t(time.size()); }
};

// `most` events in the last sample, fewer before, none in the first.
inline Batch random_batch(std::mt19937_64& random, int64_t samples, int64_t units, int64_t most, double duration) {
    Batch batch;
    std::uniform_real_distribution<double> time(0.0, duration);
    for (int64_t s = 0; s < samples; ++s) {
        const int64_t count = samples > 1 ? most * s / (samples - 1) : most, first = batch.size();
        for (int64_t k = 0; k < count; ++k) batch.time.push_back(time(random)), batch.unit.push_back(int32_t(random() % units));
        std::sort(batch.time.begin() + first, batch.time.end());
        batch.start.push_back(batch.size());
    }
    batch.time.shrink_to_fit(), batch.unit.shrink_to_fit(), batch.start.shrink_to_fit();
    return batch;
}

inline Batch to_batch(const SpikesPerSample& spikes) {
    Batch batch;
    for (const auto& sample : spikes) {
        for (const Spike& spike : sample) batch.time.push_back(spike.time), batch.unit.push_back(spike.unit);
        batch.start.push_back(batch.size());
    }
    return batch;
}

// What is varied from problem to problem.
struct Kind {
    int64_t size = 20, inputs = 7, samples = 4, events = 30;
    bool spiking = true, own_times = false, tonic = false, silent = false, continued = false;
    bool delay_per_unit = false, times_per_sample = false;
    int threads = 1;
    double duration = 60e-3;
};

template <class T>
struct Problem;
// Nothing but spikes is asked for.
template <class T>
Request bare(const Problem<T>& x) {
    Request request;
    request.batch = x.kind.samples, request.until = x.duration, request.spike_limit = 10000, request.threads = x.kind.threads;
    return request;
}

template <class T>
struct Problem {
    Kind kind;
    double duration = kind.duration;
    std::mt19937_64 random{7};
    std::vector<double> tau_mem, tau_syn, threshold, leak, reset, refractory, delay;
    std::vector<T> weight;
    Batch drive;
    std::vector<uint8_t> silent;
    std::vector<double> sample_time, sample_value, peak_time, peak_value;
    std::vector<int32_t> sample_unit;
    std::vector<double> start[3], end[3];

    explicit Problem(const Kind& k) : kind(k) {
        const auto between = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
        for (int64_t m = 0; m < k.size; ++m) {
            const bool first = m == 0 || k.own_times;
            tau_mem.push_back(first ? between(5e-3, 20e-3) : tau_mem[0]);
            tau_syn.push_back(first ? (m % 3 ? between(3e-3, 20e-3) : tau_mem[m]) : tau_syn[0]);
            threshold.push_back(between(0.9, 1.1));
            leak.push_back(k.tonic && m % 2 ? 1.3 : between(-0.2, 0.2));
            reset.push_back(between(-0.5, 0.3));
            refractory.push_back(m % 4 ? between(0.0, 2e-3) : 0.0);
        }
        for (int64_t w = 0; w < k.inputs * k.size; ++w) weight.push_back(T(between(-1.0, 2.5)));
        for (int64_t u = 0; u < (k.delay_per_unit ? k.inputs : 1); ++u) delay.push_back(between(0.0, 3e-3));
        drive = random_batch(random, k.samples, k.inputs, k.events, duration);
        for (int64_t n = 0; n < k.samples * k.size; ++n) {
            silent.push_back(random() % 4 == 0);
            start[0].push_back(between(-0.2, 0.5)), start[1].push_back(between(0.0, 1.0));
            start[2].push_back(k.spiking && n % 3 == 0 ? 1e-3 : 0.0);
        }
        for (int64_t s = 0; s < (k.times_per_sample ? k.samples : 1); ++s)
            for (int step = 0; step <= 6; ++step) sample_time.push_back(step * duration / 6);
        for (int64_t m = 0; m < k.size; m += 3) sample_unit.push_back(int32_t(k.size - 1 - m));
        // without room to spare: what is read beyond their ends is to be seen
        for (auto* x : {&tau_mem, &tau_syn, &threshold, &leak, &reset, &refractory, &delay, &sample_time, &start[0], &start[1], &start[2]}) x->shrink_to_fit();
        weight.shrink_to_fit(), silent.shrink_to_fit(), sample_unit.shrink_to_fit();
        sample_value.resize(k.samples * 7 * sample_unit.size());
        peak_time.resize(k.samples * k.size), peak_value.resize(k.samples * k.size);
        for (auto& array : end) array.resize(k.samples * k.size);
    }

    Neurons neurons() const {
        return {kind.size,    tau_mem.data(), tau_syn.data(),    threshold.data(),
                leak.data(), reset.data(),   refractory.data(), kind.spiking};
    }
    Sampling sampling() {
        return {sample_time.data(), 7, kind.times_per_sample, sample_unit.data(), int64_t(sample_unit.size()), sample_value.data()};
    }
    Peaks peaks() { return {peak_time.data(), peak_value.data()}; }
    const uint8_t* silenced() const { return kind.silent ? silent.data() : nullptr; }
    StateArrays started() { return kind.continued ? StateArrays{start[0].data(), start[1].data(), start[2].data()} : StateArrays{}; }
    StateArrays ended() { return {end[0].data(), end[1].data(), end[2].data()}; }

    std::vector<DenseSource<T>> dense() const {
        return {{drive.trains(), kind.inputs, weight.data(), delay.data(), kind.delay_per_unit}};
    }
    // The same weights and delays behind other spikes.
    std::vector<DenseSource<T>> dense(const Batch& spikes) const {
        auto sources = dense();
        sources[0].trains = spikes.trains();
        return sources;
    }
    SpikesPerSample after(const Batch& spikes) const { return dense_forward<T>({{dense(spikes), neurons(), bare(*this)}})[0]; }
    SpikesPerSample forward() { return forward(request()); }
    SpikesPerSample forward(const Request& request) const { return dense_forward<T>({{dense(), neurons(), request}})[0]; }
    Request request() {
        return {kind.samples, 0.0, duration, silenced(), started(), ended(), {}, {}, sampling(), peaks(), 10000, kind.threads};
    }

    std::vector<int64_t> begin;
    std::vector<int32_t> target;
    // The same projection, synapse by synapse.
    std::vector<QueueSource<T>> sparse() {
        begin.clear(), target.clear();
        for (int64_t u = 0; u <= kind.inputs; ++u) begin.push_back(u * kind.size);
        for (int64_t k = 0; k < kind.inputs * kind.size; ++k) target.push_back(int32_t(k % kind.size));
        QueueSource<T> source;
        source.trains = drive.trains();
        source.size = kind.inputs;
        source.begin = begin.data(), source.target = target.data();
        source.weight = weight.data(), source.weights = int64_t(weight.size());
        source.delay = delay.data(), source.delays = kind.delay_per_unit ? Delay::per_unit : Delay::common;
        return {source};
    }
    std::vector<QueuePopulation> populations() { return {{neurons(), 0, silenced(), started(), ended(), {}, {}, sampling(), peaks()}}; }
    QueueRequest queue_request() const { return {kind.samples, kind.size, 0.0, duration, 10000, kind.threads}; }
};

// The problem's projection and one from the population to itself: sparse, with shared weights and a delay per synapse.
template <class T>
struct Loop {
    std::vector<int64_t> begin, index;
    std::vector<int32_t> target;
    std::vector<double> delay;
    std::vector<T> weight = std::vector<T>(5, T(0.3));
    std::vector<QueueSource<T>> sources;

    explicit Loop(Problem<T>& x) : sources(x.sparse()) {
        const int64_t size = x.kind.size;
        for (int64_t u = 0; u <= size; ++u) begin.push_back(u * 3);
        for (int64_t k = 0; k < size * 3; ++k)
            target.push_back(int32_t((k * 7 + 1) % size)), index.push_back(k % 5), delay.push_back(double(k % 11) * 1e-3);
        QueueSource<T> source;
        source.internal = true, source.size = size;
        source.begin = begin.data(), source.target = target.data(), source.weight_index = index.data();
        source.weight = weight.data(), source.weights = int64_t(weight.size());
        source.delay = delay.data(), source.delays = Delay::per_synapse;
        sources.push_back(source);
    }
};

// Sizes around the widths of the vector blocks, and every option.
inline std::vector<Kind> kinds() {
    std::vector<Kind> all;
    for (int64_t size : {1, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, 130})
        for (int options = 0; options < 8; ++options) {
            Kind k;
            k.size = size;
            k.spiking = options & 1, k.own_times = options & 2, k.tonic = options & 4;
            k.silent = size % 2, k.continued = size % 3 == 0, k.delay_per_unit = options % 3, k.times_per_sample = size % 5 == 0;
            k.threads = 1 + options % 3;
            all.push_back(k);
        }
    Kind none;
    none.samples = 0;
    all.push_back(none);
    Kind quiet;
    quiet.events = 0;
    all.push_back(quiet);
    for (bool own_times : {false, true}) {  // hundreds of time constants
        Kind lasting;
        lasting.own_times = own_times, lasting.duration = 3, lasting.events = 500;
        all.push_back(lasting);
    }
    return all;
}

}  // namespace spikeloop::tests
