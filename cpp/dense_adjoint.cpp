// Adjoint of dense feed-forward populations, sample by sample through all stages: only neurons that spiked, or whose membrane
// the loss looks at, take part. They are packed into blocks of lanes; a block replays the currents forwards and sweeps the
// adjoint backwards over the arrivals before its last spike. Weight gradients are added up afterwards, sample by sample, so
// they do not depend on the threads.
#include <numeric>

#include "dense.hpp"
#include "marks.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kSlabBytes = int64_t(2) << 20;  // adjoints of arrivals kept at a time: they should stay in the cache

// One stretch between arrivals, for neurons of one pair of time constants.
template <class T>
struct Interval {
    T em, es, g, back, leak;  // back: lambda_V's share in lambda_I; leak: integral of lambda_V
    T vv, vi, ii, iv;
    Flow flow() const { return {double(em), double(es), double(g)}; }
};

// Of the active neurons that share a vector: how many arrivals they can feel, and where the adjoints of these are.
struct Reach {
    size_t arrivals = 0, offset = 0;
    bool side_by_side = false;  // they follow each other
};

// What one sample leaves of one stage for the reduction.
template <class T>
struct SampleAdjoint {
    int64_t sample = 0;
    std::vector<Arrival> arrivals;
    std::vector<std::vector<int32_t>> shares;  // the arrivals, by who adds up the weight rows of their units
    std::vector<int32_t> active;   // neurons: all in order, or the last to spike first
    std::vector<Reach> blocks;
    std::vector<T> charge;         // (blocks, arrivals, lanes): tau_syn lambda_I = -dL/dw of each arrival
    std::vector<NeuronGradient> neuron;  // per active neuron
    SlopeFloor slope{0};
};

// One stage of the call.
template <class T>
struct Job {
    DenseBack<T>* stage;
    std::vector<Neuron> neuron;
    bool one_tau, want_weight = false, want_arrival_time = false;
    std::vector<SampleAdjoint<T>>& samples;
    int ratio = 0;    // that of its neurons
    int shares = 1;   // of the presynaptic units, in which weight rows are added up
    const Backward& request() const { return stage->request; }
    int64_t size() const { return stage->neurons.size; }
};

// Scratch of one thread.
template <class T>
struct Scratch {
    std::vector<double> time;              // where the stretches begin, and the end
    std::vector<Interval<T>> stretches;
    std::vector<const T*> row;             // the weights of each arrival
    std::vector<std::vector<Mark>> marks;  // per active neuron
    std::vector<size_t> spike_marks;       // how many of them are not the loss's
    std::vector<uint32_t> close;           // (blocks, stretches): lanes that a stretch has to treat one by one
    std::vector<double> wait, a, b, em, es, g;  // flows from mark to mark; that of mark k starts at place marks[k].flow
    std::vector<int32_t> place;            // neuron -> position in `active`, -1
    std::vector<T> v0, i0, weight;         // (stretches, lanes) of the current block
    std::vector<double> arrival;           // dL/d arrival time
    Flow flow(int32_t place) const { return {em[place], es[place], g[place]}; }
};

template <class T>
struct Lanes {
    static constexpr int N = kLanes<T>;
    alignas(64) T v[N], i[N], lv[N], li[N], leak[N], tau_mem[N], tau_syn[N];
    alignas(64) int32_t column[N];
    bool side_by_side;  // the columns follow each other
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
namespace {

template <class T>
Job<T> make_job(DenseBack<T>& stage, std::vector<SampleAdjoint<T>>& samples) {
    Job<T> job{&stage, {}, stage.neurons.one_tau(), false, false, samples};
    for (int64_t m = 0; m < stage.neurons.size; ++m) job.neuron.push_back(stage.neurons[m]);
    job.ratio = stage.neurons.ratio();
    for (size_t s = 0; s < stage.sources.size(); ++s) {
        job.want_arrival_time |= stage.time[s] || stage.source_time[s];
        job.want_weight |= stage.weight[s] != nullptr;
    }
    stage.neuron.assign(stage.neurons.size, {});
    return job;
}

template <class T>
int64_t arrivals_of(const DenseBack<T>& stage) {
    int64_t events = 1;
    for (const auto& source : stage.sources) events += source.trains.start[stage.request.batch] - source.trains.start[0];
    return events;
}

}  // namespace

template <class T>
void dense_adjoint(std::vector<DenseBack<T>>& stages) {
    const int64_t batch = stages[0].request.batch;
    std::vector<Job<T>> jobs;
    auto& kept = own<std::vector<std::vector<SampleAdjoint<T>>>>();  // their room serves the next call
    kept.resize(std::max(kept.size(), stages.size()));
    double work = 0, bytes = 1, rows = 0;
    for (DenseBack<T>& stage : stages) {
        jobs.push_back(make_job(stage, kept[jobs.size()]));
        if (batch == 0) continue;
        const double events = double(arrivals_of(stage)), vectors = double(stage.neurons.size / kLanes<T> + 1);
        const double spikes = double(stage.request.spikes.start[batch] - stage.request.spikes.start[0]);
        const double active = stage.request.membrane.empty() ? std::min(vectors, spikes / double(batch) / kLanes<T> + 1) : vectors;
        work += 100.0 * spikes + 20.0 * events * active;
        rows += 2.0 * events * active, bytes += events * active * kLanes<T> * sizeof(T);
    }
    if (batch == 0) return;
    const int threads = worthwhile(stages[0].request.threads, work);
    const int64_t slab = std::clamp<int64_t>(int64_t(double(kSlabBytes) * double(batch) / bytes), 1, batch);
    const int shares = worthwhile(threads, rows * double(slab) / double(batch));
    for (Job<T>& job : jobs) job.samples.resize(std::max<size_t>(job.samples.size(), slab)), job.shares = shares;
    for (int64_t first = 0; first < batch; first += slab) {
        const int64_t count = std::min(slab, batch - first);
        parallel_for(count, threads, 2, [&](int64_t s, Watch& watch) {
            Scratch<T>& scratch = own<Scratch<T>>();
            for (size_t k = jobs.size(); k-- > 0;) {
                SampleAdjoint<T>& out = jobs[k].samples[s];
                out.sample = first + s, out.slope = {jobs[k].request().slope_floor};
                if (jobs[k].size() > 0) SPIKELOOP_BEST(sample_back(jobs[k], out, scratch, watch));
            }
        });
        parallel_for(shares, shares, 1, [&](int64_t share) {
            for (const Job<T>& job : jobs)
                if (job.want_weight) SPIKELOOP_BEST(add_weight_rows(job, count, share));
        });
        for (Job<T>& job : jobs)
            for (int64_t s = 0; s < count; ++s) {
                const SampleAdjoint<T>& out = job.samples[s];
                for (size_t p = 0; p < out.neuron.size(); ++p) job.stage->neuron[out.active[p]] += out.neuron[p];
                job.stage->slope.acted += out.slope.acted, job.stage->slope.spikes += out.slope.spikes;
            }
    }
}

template void dense_adjoint(std::vector<DenseBack<float>>&);
template void dense_adjoint(std::vector<DenseBack<double>>&);

}  // namespace spikeloop
