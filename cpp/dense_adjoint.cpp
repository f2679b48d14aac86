// Adjoint of a dense feed-forward population: only neurons that spiked, or whose membrane the loss looks at, take part.
// They are packed into blocks of lanes; a block replays the currents forwards and sweeps the adjoint backwards over the
// sample's arrivals. Weight gradients are added up afterwards, sample by sample, so they do not depend on the threads.
#include <numeric>

#include "dense.hpp"
#include "marks.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kSlabBytes = int64_t(32) << 20;  // adjoints of arrivals kept at a time

// One stretch between arrivals, for neurons of one pair of time constants.
template <class T>
struct Interval {
    double begin, end;
    T em, es, g, back, leak;  // back: lambda_V's share in lambda_I; leak: integral of lambda_V
    T vv, vi, ii, iv;
    Flow flow() const { return {double(em), double(es), double(g)}; }
};

// One sample's way through the adjoint and what it leaves for the reduction.
template <class T>
struct SampleAdjoint {
    int64_t sample = 0;
    std::vector<Arrival> arrivals;
    std::vector<int32_t> active;   // neurons, ascending
    std::vector<T> charge;         // (blocks, arrivals, lanes): tau_syn lambda_I = -dL/dw of each arrival
    std::vector<NeuronGradient> neuron;  // per active neuron
    SlopeFloor slope{0};
};

template <class T>
struct Job {
    const std::vector<DenseSource<T>>& sources;
    const Neurons& neurons;
    const std::vector<Neuron>& neuron;
    const Backward& request;
    bool one_tau, want_arrival_time;
};

// Scratch of one thread.
template <class T>
struct Scratch {
    std::vector<Interval<T>> stretches;
    std::vector<std::vector<Mark>> marks;  // per active neuron
    std::vector<uint32_t> close;           // (blocks, stretches): lanes that a stretch has to treat one by one
    std::vector<double> wait, a, b, em, es, g;  // flows from mark to mark; that of mark k starts at place marks[k].flow
    std::vector<int32_t> place;            // neuron -> position in `active`, -1
    std::vector<T> v0, i0;                 // (stretches, lanes) of the current block
    std::vector<double> arrival;           // dL/d arrival time
    Flow flow(int32_t place) const { return {em[place], es[place], g[place]}; }
};

template <class T>
struct Lanes {
    static constexpr int N = kLanes<T>;
    alignas(64) T v[N], i[N], lv[N], li[N], leak[N], tau_mem[N], tau_syn[N], keep[N], charge[N];  // charge: tau_syn of the neuron
    int64_t column[N];
    bool side_by_side;  // the columns follow each other and fill the block
    int count;
    Neuron neuron[N];
    bool held[N];
    std::vector<Mark>* marks[N];
    int64_t next[N];  // the next mark, forwards or backwards
    NeuronGradient gradient[N];
};

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "dense_adjoint.inl"
#include "each_target.hpp"

namespace spikeloop {

template <class T>
void dense_adjoint(const std::vector<DenseSource<T>>& sources, const Neurons& neurons, const Backward& request, DenseGradient<T>& gradient) {
    gradient.neuron.assign(neurons.size, {});
    if (neurons.size == 0 || request.batch == 0) return;
    std::vector<Neuron> neuron(neurons.size);
    for (int64_t m = 0; m < neurons.size; ++m) neuron[m] = neurons[m];
    bool want_time = false, want_weight = false;
    for (double* time : gradient.time) want_time |= time != nullptr;
    for (T* weight : gradient.weight) want_weight |= weight != nullptr;
    const Job<T> job{sources, neurons, neuron, request, neurons.one_tau(), want_time};
    int64_t events = 1;
    for (const auto& source : sources) events += source.trains.start[request.batch] - source.trains.start[0];
    const int64_t per_sample = events / request.batch + 1;
    const int64_t spikes = request.spikes.start[request.batch] - request.spikes.start[0];
    const int threads = worthwhile(request.threads, 100.0 * double(spikes) + 20.0 * double(events) * double(neurons.size / kLanes<T> + 1));
    const int64_t slab = std::clamp<int64_t>(kSlabBytes / (per_sample * neurons.size * int64_t(sizeof(T))), 1, request.batch);
    std::vector<SampleAdjoint<T>> samples(slab);
    for (int64_t first = 0; first < request.batch; first += slab) {
        const int64_t count = std::min(slab, request.batch - first);
        parallel_for(count, threads, 2, [&](int64_t s) {
            Scratch<T>& scratch = own<Scratch<T>>();
            samples[s].sample = first + s;
            samples[s].slope = {request.slope_floor};
            SPIKELOOP_BEST(sample_back(job, samples[s], scratch, gradient));
        });
        // every one of them reads all arrivals, so there must be enough of them
        const int64_t shares = worthwhile(threads, 2.0 * double(per_sample * count) * double(neurons.size / kLanes<T> + 1));
        if (want_weight)
            parallel_for(shares, int(shares), 1,
                         [&](int64_t share) { SPIKELOOP_BEST(add_weight_rows(job, samples, count, share, shares, gradient)); });
        for (int64_t s = 0; s < count; ++s) {
            for (size_t p = 0; p < samples[s].neuron.size(); ++p) gradient.neuron[samples[s].active[p]] += samples[s].neuron[p];
            gradient.slope.acted += samples[s].slope.acted, gradient.slope.spikes += samples[s].slope.spikes;
        }
    }
}

template void dense_adjoint(const std::vector<DenseSource<float>>&, const Neurons&, const Backward&, DenseGradient<float>&);
template void dense_adjoint(const std::vector<DenseSource<double>>&, const Neurons&, const Backward&, DenseGradient<double>&);

}  // namespace spikeloop
