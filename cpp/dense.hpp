// Feed-forward populations with dense projections, whole weight rows at a time, several of them in one call.
#pragma once
#include <functional>
#include <memory>

#include "stage.hpp"
#include "threads.hpp"

namespace spikeloop {

template <class T>
struct DenseSource {
    Trains trains;
    int64_t size = 0;         // presynaptic units
    const T* weight = nullptr;  // (size, neurons)
    const double* delay = nullptr;
    bool delay_per_unit = false;
    int64_t stage = -1;  // forward: the earlier stage of the call whose spikes arrive instead of `trains`
    double lag(int32_t unit) const { return delay[delay_per_unit ? unit : 0]; }
};

// One population, what it listens to and what is asked of it.
template <class T>
struct DenseStage {
    std::vector<DenseSource<T>> sources;
    Neurons neurons;
    Request request;
};

// What one presynaptic event does: at `time`, row `unit` of source `source` is added to the currents.
struct Arrival {
    double time;
    int32_t source, unit;
    int64_t event;
};

// Those of one sample, if all fell into the run; `spikes` are those of earlier stages.
template <class T>
size_t most_arrivals(const std::vector<DenseSource<T>>& sources, const std::vector<SpikesPerSample>& spikes, int64_t sample) {
    size_t most = 0;
    for (const auto& source : sources) most += source.stage >= 0 ? spikes[source.stage][sample].size() : size_t(source.trains.size(sample));
    return most;
}

// Calls visit(arrival) for those of one sample within [begin, end), source by source; whether they came in order of time.
template <class T, class Visit>
bool for_each_arrival(const std::vector<DenseSource<T>>& sources, const std::vector<SpikesPerSample>& spikes, int64_t sample, double begin,
                      double end, Visit&& visit) {
    double latest = -kInfinity;
    bool in_order = true;
    for (size_t s = 0; s < sources.size(); ++s) {
        const DenseSource<T> source = sources[s];  // a copy: nothing that is written can change it
        const auto add = [&](double emitted, int32_t unit, int64_t event) {
            const double time = emitted + source.lag(unit);
            if (!(time >= begin && time < end)) return;
            in_order &= time >= latest, latest = time;
            visit(Arrival{time, int32_t(s), unit, event});
        };
        if (source.stage >= 0) {
            for (const Spike& spike : spikes[source.stage][sample]) add(spike.time, spike.unit, -1);
        } else {
            const Trains& t = source.trains;
            for (int64_t e = t.start[sample]; e < t.start[sample + 1]; ++e) add(t.time[e], t.unit[e], e);
        }
    }
    return in_order;
}

// Those within [begin, end), in order of time.
template <class T>
void gather_arrivals(const std::vector<DenseSource<T>>& sources, const std::vector<SpikesPerSample>& spikes, int64_t sample, double begin,
                     double end, std::vector<Arrival>& out) {
    out.resize(most_arrivals(sources, spikes, sample));  // what it held is written over
    Arrival* to = out.data();
    const bool in_order = for_each_arrival(sources, spikes, sample, begin, end, [&](const Arrival& arrival) { *to++ = arrival; });
    out.resize(size_t(to - out.data()));
    if (!in_order) std::stable_sort(out.begin(), out.end(), [](const Arrival& x, const Arrival& y) { return x.time < y.time; });
}

// Calls add(n, arrival) with the n-th of those in order of time, once or, where they did not come in order, once more; how many
// there are.
template <class T, class Add>
size_t add_in_order(const std::vector<DenseSource<T>>& sources, const std::vector<SpikesPerSample>& spikes, int64_t sample, double begin,
                    double end, Add&& add) {
    size_t count = 0;
    const auto next = [&](const Arrival& arrival) { add(count++, arrival); };
    if (!for_each_arrival(sources, spikes, sample, begin, end, next)) {
        std::vector<Arrival>& sorted = own<std::vector<Arrival>>();
        gather_arrivals(sources, spikes, sample, begin, end, sorted);
        count = 0;
        for (const Arrival& arrival : sorted) next(arrival);
    }
    return count;
}

// What else is done with samples first .. first + count as soon as they have passed: by the thread that has them in its cache.
using Passed = std::function<void(int64_t first, int64_t count, Watch& watch)>;

// The spikes of each stage, kept until this thread's next call; batch, begin and end, spike limit and threads are those of the first
// stage's request.
template <class T>
const std::vector<SpikesPerSample>& dense_forward(const std::vector<DenseStage<T>>& stages);

// The same for some samples after the others. The stages are its caller's to keep.
template <class T>
class DenseForward {
public:
    explicit DenseForward(const std::vector<DenseStage<T>>& stages);
    ~DenseForward();
    // Samples first .. first + count.
    void run(int64_t first, int64_t count, const Passed& passed = {});
    const std::vector<SpikesPerSample>& spikes() const;  // of each stage, those of samples that have passed

private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

// One population's adjoint: what it listened to (with `trains`), its record, and where gradients go; null where not wanted.
template <class T>
struct DenseBack {
    std::vector<DenseSource<T>> sources;
    Neurons neurons;
    Backward request;
    std::vector<T*> weight;                 // per source (size, neurons), added to
    std::vector<double*> time, source_time;  // per source (events,): dL/d arrival time of each event is added to both
    std::vector<NeuronGradient> neuron;     // made here
    SlopeFloor slope{0};
    // If there is one, called by whichever thread has added all there is to the weights of `count` neurons from `first` on.
    std::function<void(int64_t first, int count)> summed{};
};

// `stages` in forward order, carried out from the last to the first; batch and threads are those of the first one's request.
template <class T>
void dense_adjoint(std::vector<DenseBack<T>>& stages);

// The same for samples that are taken back a few at a time, by whichever thread has them, and added up together.
template <class T>
class DenseAdjoint {
public:
    // `stages`: as they will be given, but for what is of samples: spikes, cotangents, trains.
    explicit DenseAdjoint(const std::vector<DenseBack<T>>& stages);
    ~DenseAdjoint();
    // For `count` samples, whose places are 0 .. count.
    void begin(int64_t count);
    // All samples that these stages have, on this thread: they are the ones of `place` and what follows.
    void take_back(std::vector<DenseBack<T>>& stages, int64_t place, Watch& watch);
    // For every place a sample of these stages, from `first` on, on so many threads.
    void take_all_back(std::vector<DenseBack<T>>& stages, int64_t first, int threads);
    // How much all samples have left to be added up.
    double bytes() const;
    // Everybody's weights, on so many threads; `stages` need nothing that is of samples. `last`: nothing else will be added to them.
    void add_up(std::vector<DenseBack<T>>& stages, int threads, bool last);

private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace spikeloop
