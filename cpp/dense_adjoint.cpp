// Adjoint of dense feed-forward populations, sample by sample through all stages. Only neurons that spiked, or whose membrane
// the loss looks at, take part. Between two marks of its own a neuron's adjoint is a sum of two modes, which arrivals do not
// change: it is taken back from mark to mark, neuron by neuron, and leaves what its modes are from which arrival on. What an
// arrival brings to the weights of a block of neurons is then two products, added up afterwards, block by block, samples in
// order: sums do not depend on the threads.
#include <numeric>
#include <optional>

#include "dense.hpp"
#include "marks.hpp"
#include "modes.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kSlabBytes = int64_t(1) << 18;  // of samples kept for the sums: they should stay in the cache
constexpr int kWide = 4;                          // blocks of neurons that are replayed side by side

// From `arrival` backwards, dL/dw = -(p one + q two) in this lane.
template <class T>
struct Change {
    int32_t arrival, lane;
    T p, q;
};

// What one sample leaves of one stage for the sums.
template <class T>
struct SampleAdjoint {
    int64_t sample = 0;
    std::vector<T*> row;                 // of the gradient, of each arrival; null where it is not wanted
    std::vector<T> one, two;             // the modes at each arrival, times tau_syn; (blocks, arrivals, lanes) unless all are equal
    std::vector<Change<T>> changes;      // block by block, the last first
    std::vector<int32_t> first_change;   // of each block, and the end
    std::vector<int32_t> place;          // of each block in `one` and `two`, unless all are equal
    size_t reach = 0;                    // arrivals that any neuron can feel
    std::vector<int32_t> active;         // neurons, in order
    std::vector<NeuronGradient> neuron;  // per active neuron
    SlopeFloor slope{0};
};

// One stage of the call.
template <class T>
struct Job {
    DenseBack<T>* stage;
    std::vector<SampleAdjoint<T>>& samples;
    std::vector<Neuron> neuron;
    std::vector<Modes> modes;  // of each neuron, or the one that all have
    bool one_tau, want_weight = false, want_arrival_time = false;
    bool starts = false, leaps = false;  // not all neurons start at rest; the run is longer than `span`
    bool refractory = false;  // any neuron is
    int ratio = 0;  // that of its neurons
    double span = 0, back_span = 0;
    const Backward& request() const { return stage->request; }
    int64_t size() const { return stage->neurons.size; }
    int64_t blocks() const { return (size() + kLanes<T> - 1) / kLanes<T>; }
    const Modes& modes_of(int64_t m) const { return modes[one_tau ? 0 : m]; }
    // Whether nothing need be replayed: all that is needed at marks is the current at spikes, and that is known.
    bool knows_currents() const { return request().current && !refractory && !wants_membrane(); }
    // Whether spikes alone are marks, their currents are known, and nothing of the neurons themselves is wanted.
    bool only_spikes() const {
        return request().current && !refractory && request().membrane.empty() && !request().start.held && !request().want_neuron && !leaps;
    }
    bool wants_membrane() const { return request().want_tau || (want_arrival_time && !request().membrane.empty()); }
    int32_t anchor(double time) const { return int32_t(time * back_span); }
};

// A block of lanes, and which of the active neurons it has.
struct ActiveBlock {
    int32_t block, begin, end;
};

// A stretch between arrivals, for the time constants' gradients.
struct Interval {
    Flow flow;
    StretchIntegrals integrals;
};
inline Interval interval(double dt, double a, double b) {
    const Flow f = flow(dt, a, b);
    return {f, stretch_integrals(dt, a, b, f)};
}

// Scratch of one thread.
template <class T>
struct Scratch {
    std::vector<Arrival> arrivals;
    std::vector<double> time;                   // of arrivals
    std::vector<int32_t> anchor, first;         // of arrivals: their anchor, and the first arrival that has it
    std::vector<double> since;                  // of arrivals: time since their anchor
    std::vector<const T*> row;                  // of arrivals: their weights
    std::vector<uint64_t> seen;                 // one bit a neuron
    std::vector<ActiveBlock> blocks;
    std::vector<Marks> marks;                   // per neuron, in `all_marks`
    std::vector<Mark> all_marks;
    std::vector<int32_t> room;                  // per neuron, for how many
    std::vector<size_t> spike_marks;            // how many of them are not the loss's
    std::vector<double> wait, a, b, em, es, g;  // from its anchor to each mark, and the flow there
    std::vector<double> back_m, back_s;         // one over em and es
    std::vector<int32_t> mark_anchor;
    std::vector<T> r, s;                        // state after each number of arrivals, see Modes: (arrivals + 1, blocks, lanes)
    std::vector<T> move_one, move_two;          // the modes in lambda_V - lambda_I at each arrival, as `one` and `two`
    std::vector<double> arrival;                // dL/d arrival time
    std::vector<Change<T>> changes;             // of a block of lanes, lane by lane
    int32_t next_change[kLanes<T>];             // of each lane
    std::vector<int32_t> stretch;               // of each spike, how many arrivals come before it
    std::vector<Pair> pair;                     // of each neuron: its adjoint on the way
    std::vector<int32_t> next;                  // of each block: where its next change goes
    std::vector<uint32_t> changing;             // the lanes that change at each arrival
    std::vector<uint64_t> any_changing;         // one bit an arrival
    std::vector<Interval> stretches;
    std::vector<State> way;                     // of a neuron from a mark to the next, at arrivals
    Flow flow(int32_t place) const { return {em[place], es[place], g[place]}; }
};

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "dense_adjoint.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

template <class T>
Job<T> make_job(DenseBack<T>& stage, std::vector<SampleAdjoint<T>>& samples) {
    constexpr double kSpan = 16;  // of the modes' exponents
    Job<T> job{&stage, samples, {}, {}, stage.neurons.one_tau()};
    double fastest = 0;
    for (int64_t m = 0; m < stage.neurons.size; ++m) {
        const Neuron& n = job.neuron.emplace_back(stage.neurons[m]);
        fastest = std::max({fastest, n.a, n.b}), job.starts |= n.initial() != 0, job.refractory |= n.refractory > 0;
    }
    job.span = kSpan / fastest, job.back_span = 1 / job.span;
    job.starts |= stage.request.start.membrane != nullptr, job.leaps = stage.request.duration >= job.span;
    for (const Neuron& n : job.neuron)
        if (!job.one_tau || job.modes.empty()) job.modes.emplace_back(n, job.span);
    job.ratio = stage.neurons.ratio();
    for (size_t s = 0; s < stage.sources.size(); ++s) {
        job.want_arrival_time |= stage.time[s] || stage.source_time[s];
        job.want_weight |= stage.weight[s] != nullptr;
    }
    stage.neuron.assign(stage.neurons.size, {});
    return job;
}

template <class T>
double arrivals_of(const DenseBack<T>& stage) {
    int64_t events = 1;
    for (const auto& source : stage.sources) events += source.trains.start[stage.request.batch] - source.trains.start[0];
    return double(events);
}

}  // namespace

template <class T>
void dense_adjoint(std::vector<DenseBack<T>>& stages) {
    const int64_t batch = stages[0].request.batch;
    std::vector<Job<T>> jobs;
    auto& kept = own<std::vector<std::vector<SampleAdjoint<T>>>>();  // their room serves the next call
    kept.resize(std::max(kept.size(), stages.size()));
    double work = 0, bytes = 1, sums = 0;
    std::vector<std::pair<size_t, int64_t>> parts;  // of the sums: stage and block
    for (DenseBack<T>& stage : stages) {
        const Job<T>& job = jobs.emplace_back(make_job(stage, kept[jobs.size()]));
        if (batch == 0) continue;
        const double events = arrivals_of(stage), spikes = double(stage.request.spikes.start[batch] - stage.request.spikes.start[0]);
        const double blocks = double(job.blocks()), active = stage.request.membrane.empty() ? std::min(blocks, spikes / double(batch) + 1) : blocks;
        work += 50.0 * spikes + 2.0 * events * active, sums += 2.0 * events * active;
        bytes += events * (sizeof(T*) + 2 * sizeof(T) * (job.one_tau ? 1 : active * kLanes<T>)) + spikes * sizeof(Change<T>);
        for (int64_t block = 0; block < job.blocks() && job.want_weight; ++block) parts.push_back({jobs.size() - 1, block});
    }
    if (batch == 0) return;
    const int threads = worthwhile(stages[0].request.threads, work);
    const Parts slabs(batch, std::clamp<int64_t>(int64_t(double(kSlabBytes) * double(batch) / bytes), 1, batch), 1);
    const int adders = worthwhile(threads, sums / double(slabs.number), true);
    for (Job<T>& job : jobs) job.samples.resize(std::max<size_t>(job.samples.size(), (batch + slabs.number - 1) / slabs.number));
    for (int64_t slab = 0; slab < slabs.number; ++slab) {
        const int64_t first = slabs.first(slab), count = slabs.size(slab);
        parallel_for(count, threads, 2, [&](int64_t s, Watch& watch) {
            Scratch<T>& scratch = own<Scratch<T>>();
            for (size_t k = jobs.size(); k-- > 0;) {
                SampleAdjoint<T>& out = jobs[k].samples[s];
                out.sample = first + s, out.slope = {jobs[k].request().slope_floor};
                if (jobs[k].size() > 0) SPIKELOOP_BEST(sample_back(jobs[k], out, scratch, watch));
            }
        });
        const bool last = slab + 1 == slabs.number;
        std::optional<Undisturbed> as_a_whole;
        if (last && std::any_of(stages.begin(), stages.end(), [](const auto& stage) { return bool(stage.summed); })) as_a_whole.emplace();
        parallel_for(parts.size(), adders, (int64_t(parts.size()) + adders - 1) / adders, [&](int64_t part) {
            const auto [k, block] = parts[part];
            SPIKELOOP_BEST(add_weights(jobs[k], count, block));
            if (last && stages[k].summed) {
                const int64_t lane = block * kLanes<T>;
                stages[k].summed(lane, int(std::min<int64_t>(kLanes<T>, jobs[k].size() - lane)));
            }
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
