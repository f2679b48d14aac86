// Adjoint of dense feed-forward populations, sample by sample through all stages. Only neurons that spiked, or whose membrane
// the loss looks at, take part. Between two marks of its own a neuron's adjoint is a sum of two modes, which arrivals do not
// change: it is taken back from mark to mark, neuron by neuron, and leaves what its modes are from which arrival on. What an
// arrival brings to the weights of a block of neurons is then two products, added up afterwards, block by block, samples in
// order: sums do not depend on the threads. Where a sample has few arrivals and many spikes, what each arrival brings is left
// instead of changes, of which there would be more.
#include <deque>
#include <numeric>
#include <optional>

#include "dense.hpp"
#include "marks.hpp"
#include "modes.hpp"
#include "room.hpp"
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
    Room<T*> row;                        // of the gradient, of each arrival; null where it is not wanted
    Room<T> one, two;                    // the modes at each arrival, times tau_syn; (blocks, arrivals, lanes) unless all are equal
    Room<Change<T>> changes;             // block by block, the last first
    Room<T> charge;                      // or in their place -dL/dw, of each arrival; (blocks, reach, lanes)
    std::vector<int32_t> first_change;   // of each block, and the end
    std::vector<int32_t> place;          // of each block in `one` and `two`, unless all are equal
    size_t reach = 0;                    // arrivals that any neuron can feel
    std::vector<int32_t> active;         // neurons, in order
    std::vector<NeuronGradient> neuron;  // per active neuron
    SlopeFloor slope{0};
};

// What is the same for all samples of a stage, and what they leave of it.
template <class T>
struct Frame {
    std::vector<SampleAdjoint<T>>& samples;
    std::vector<Neuron> neuron;
    std::vector<Modes> modes;  // of each neuron, or the one that all have
    bool one_tau;
    bool starts = false, leaps = false;  // not all neurons start at rest; the run is longer than `span`
    bool refractory = false;  // any neuron is
    int ratio = 0;  // that of its neurons
    double span = 0, back_span = 0;
    int64_t size() const { return int64_t(neuron.size()); }
    int64_t blocks() const { return (size() + kLanes<T> - 1) / kLanes<T>; }
};

// One stage of some samples.
template <class T>
struct Job {
    DenseBack<T>* stage;
    const Frame<T>& frame;
    const std::vector<Neuron>& neuron = frame.neuron;
    const std::vector<Modes>& modes = frame.modes;
    const bool one_tau = frame.one_tau, starts = frame.starts, leaps = frame.leaps, refractory = frame.refractory;
    const int ratio = frame.ratio;
    const double span = frame.span, back_span = frame.back_span;
    bool want_arrival_time = false;
    const Backward& request() const { return stage->request; }
    int64_t size() const { return frame.size(); }
    int64_t blocks() const { return frame.blocks(); }
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
    std::vector<Arrival> gathered;              // arrivals, unless they are a sample's events one after the other
    int64_t first_event = 0;                    // the first of these then
    size_t arrivals = 0;                        // how many
    Room<double> time;                          // of arrivals, and zeros up to a whole vector
    std::vector<int32_t> anchor, first;         // of arrivals, where there are several: their anchor, and the first arrival that has it
    Room<double> since;                         // of arrivals, there: time since their anchor
    Room<const T*> row;                         // of arrivals: their weights
    std::vector<uint64_t> seen;                 // one bit a neuron
    std::vector<ActiveBlock> blocks;
    std::vector<Marks> marks;                   // per neuron, in `all_marks`
    std::vector<Mark> all_marks;
    std::vector<int32_t> room;                  // per neuron, for how many
    std::vector<size_t> spike_marks;            // how many of them are not the loss's
    Room<double> wait, a, b, em, es, g;         // from its anchor to each mark, and the flow there
    Room<double> back_m, back_s;                // one over em and es
    std::vector<int32_t> mark_anchor;
    Room<T> r, s;                               // state after each number of arrivals, see Modes: (arrivals + 1, blocks, lanes)
    Room<T> move_one, move_two;                 // the modes in lambda_V - lambda_I at each arrival, as `one` and `two`
    std::vector<double> arrival;                // dL/d arrival time, where that is not added to what is wanted right away
    double* moved = nullptr;                    // where it is added up
    std::vector<Change<T>> changes;             // of a block of lanes, lane by lane
    int32_t next_change[kLanes<T>];             // of each lane
    Room<double> back, keep, turn;              // what takes an adjoint back over each spike
    Room<double> p, q;                          // of each neuron: its adjoint on the way
    std::vector<int32_t> next;                  // of each block: where its next change goes
    std::vector<uint32_t> changing;             // the lanes that change at each arrival
    std::vector<uint64_t> any_changing;         // one bit an arrival
    std::vector<Interval> stretches;
    std::vector<State> way;                     // of a neuron from a mark to the next, at arrivals
    Flow flow(int32_t place) const { return {em[place], es[place], g[place]}; }
    int32_t anchor_of(size_t arrival) const { return anchor.empty() ? 0 : anchor[arrival]; }
    int32_t first_of(size_t arrival) const { return first.empty() ? 0 : first[arrival]; }
};

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "dense_adjoint.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

template <class T>
Frame<T> make_frame(const DenseBack<T>& stage, std::vector<SampleAdjoint<T>>& samples) {
    constexpr double kSpan = 16;  // of the modes' exponents
    Frame<T> frame{samples, {}, {}, stage.neurons.one_tau()};
    double fastest = 0;
    for (int64_t m = 0; m < stage.neurons.size; ++m) {
        const Neuron& n = frame.neuron.emplace_back(stage.neurons[m]);
        fastest = std::max({fastest, n.a, n.b}), frame.starts |= n.initial() != 0, frame.refractory |= n.refractory > 0;
    }
    frame.span = kSpan / fastest, frame.back_span = 1 / frame.span;
    frame.starts |= stage.request.start.membrane != nullptr, frame.leaps = stage.request.duration >= frame.span;
    for (const Neuron& n : frame.neuron)
        if (!frame.one_tau || frame.modes.empty()) frame.modes.emplace_back(n, frame.span);
    frame.ratio = stage.neurons.ratio();
    return frame;
}

template <class T>
double arrivals_of(const DenseBack<T>& stage) {
    int64_t events = 1;
    for (const auto& source : stage.sources) events += source.trains.start[stage.request.batch] - source.trains.start[0];
    return double(events);
}

}  // namespace

template <class T>
struct DenseAdjoint<T>::Inside {
    std::vector<Frame<T>> frames;
    int64_t count = 0;  // samples

    std::vector<Job<T>> jobs(std::vector<DenseBack<T>>& stages) const {
        std::vector<Job<T>> jobs;
        for (DenseBack<T>& stage : stages) {
            jobs.push_back({&stage, frames[jobs.size()]});
            Job<T>& job = jobs.back();
            for (size_t s = 0; s < stage.sources.size(); ++s) job.want_arrival_time |= stage.time[s] || stage.source_time[s];
        }
        return jobs;
    }

    // Sample number `sample` of the jobs, which is that of `place` here.
    void back(const std::vector<Job<T>>& jobs, int64_t sample, int64_t place, Watch& watch) {
        Scratch<T>& scratch = own<Scratch<T>>();
        for (size_t k = jobs.size(); k-- > 0;) {
            SampleAdjoint<T>& out = frames[k].samples[place];
            out.sample = sample, out.slope = {jobs[k].request().slope_floor};
            if (jobs[k].size() == 0)
                out.neuron.clear();  // it may have been a stage of an earlier call
            else
                SPIKELOOP_BEST(sample_back(jobs[k], out, scratch, watch));
        }
    }
};

template <class T>
DenseAdjoint<T>::DenseAdjoint(const std::vector<DenseBack<T>>& stages) : inside_(std::make_unique<Inside>()) {
    auto& kept = own<std::deque<std::vector<SampleAdjoint<T>>>>();  // their room serves the next call
    kept.resize(std::max(kept.size(), stages.size()));
    for (size_t k = 0; k < stages.size(); ++k) inside_->frames.push_back(make_frame(stages[k], kept[k]));
}

template <class T>
DenseAdjoint<T>::~DenseAdjoint() = default;

template <class T>
void DenseAdjoint<T>::begin(int64_t count) {
    inside_->count = count;
    for (Frame<T>& frame : inside_->frames) frame.samples.resize(std::max<size_t>(frame.samples.size(), count));
}

template <class T>
void DenseAdjoint<T>::take_back(std::vector<DenseBack<T>>& stages, int64_t place, Watch& watch) {
    const auto jobs = inside_->jobs(stages);
    for (int64_t s = 0; s < stages[0].request.batch; ++s) inside_->back(jobs, s, place + s, watch);
}

template <class T>
void DenseAdjoint<T>::take_all_back(std::vector<DenseBack<T>>& stages, int64_t first, int threads) {
    const auto jobs = inside_->jobs(stages);
    parallel_for(inside_->count, threads, 2, [&](int64_t s, Watch& watch) { inside_->back(jobs, first + s, s, watch); });
}

template <class T>
double DenseAdjoint<T>::bytes() const {
    double bytes = 0;
    for (const Frame<T>& frame : inside_->frames)
        for (int64_t s = 0; s < inside_->count; ++s) {
            const SampleAdjoint<T>& out = frame.samples[s];
            if (out.changes.empty() && out.charge.empty()) continue;  // the rest may be that of an earlier sample
            bytes += double(out.row.size() * sizeof(T*) + (out.one.size() + out.two.size() + out.charge.size()) * sizeof(T)) +
                     double(out.changes.size() * sizeof(Change<T>));
        }
    return bytes;
}

template <class T>
void DenseAdjoint<T>::add_up(std::vector<DenseBack<T>>& stages, int threads, bool last) {
    std::vector<std::pair<size_t, int64_t>> parts;  // stage and block
    double work = 0;
    for (size_t k = 0; k < stages.size(); ++k) {
        const Frame<T>& frame = inside_->frames[k];
        const auto& weight = stages[k].weight;
        if (std::none_of(weight.begin(), weight.end(), [](const T* each) { return each != nullptr; })) continue;
        for (int64_t block = 0; block < frame.blocks(); ++block) parts.push_back({k, block});
        for (int64_t s = 0; s < inside_->count; ++s) {
            const SampleAdjoint<T>& out = frame.samples[s];
            work += 2.0 * double(out.reach) * double(std::min<int64_t>(frame.blocks(), int64_t(out.changes.size())));
            work += double(out.charge.size() / kLanes<T>);
        }
    }
    const int adders = worthwhile(threads, work, true);
    std::optional<Undisturbed> as_a_whole;
    if (last && std::any_of(stages.begin(), stages.end(), [](const auto& stage) { return bool(stage.summed); })) as_a_whole.emplace();
    parallel_for(parts.size(), adders, 1, [&](int64_t part) {  // a readout's few neurons take as long as several blocks: one by one
        const auto [k, block] = parts[part];
        const Frame<T>& frame = inside_->frames[k];
        SPIKELOOP_BEST(add_weights(frame, inside_->count, block));
        if (last && stages[k].summed) {
            const int64_t lane = block * kLanes<T>;
            stages[k].summed(lane, int(std::min<int64_t>(kLanes<T>, frame.size() - lane)));
        }
    });
    for (size_t k = 0; k < stages.size(); ++k)
        for (int64_t s = 0; s < inside_->count; ++s) {
            const SampleAdjoint<T>& out = inside_->frames[k].samples[s];
            for (size_t p = 0; p < out.neuron.size(); ++p) stages[k].neuron[out.active[p]] += out.neuron[p];
            stages[k].slope.acted += out.slope.acted, stages[k].slope.spikes += out.slope.spikes;
        }
}

template <class T>
void dense_adjoint(std::vector<DenseBack<T>>& stages) {
    const int64_t batch = stages[0].request.batch;
    for (DenseBack<T>& stage : stages) stage.neuron.assign(stage.neurons.size, {});
    if (batch == 0) return;
    double work = 0, bytes = 1;
    for (const DenseBack<T>& stage : stages) {
        const double events = arrivals_of(stage), spikes = double(stage.request.spikes.start[batch] - stage.request.spikes.start[0]);
        const double blocks = double((stage.neurons.size + kLanes<T> - 1) / kLanes<T>);
        const double active = stage.request.membrane.empty() ? std::min(blocks, spikes / double(batch) + 1) : blocks;
        work += 50.0 * spikes + 2.0 * events * active;
        bytes += events * (sizeof(T*) + 2 * sizeof(T) * (stage.neurons.one_tau() ? 1 : active * kLanes<T>)) + spikes * sizeof(Change<T>);
    }
    const int threads = worthwhile(stages[0].request.threads, work);
    const Parts slabs(batch, std::clamp<int64_t>(int64_t(double(kSlabBytes) * double(batch) / bytes), 1, batch), 1);
    DenseAdjoint<T> adjoint(stages);
    for (int64_t slab = 0; slab < slabs.number; ++slab) {
        const int64_t first = slabs.first(slab), count = slabs.size(slab);
        adjoint.begin(count);
        adjoint.take_all_back(stages, first, threads);
        adjoint.add_up(stages, threads, slab + 1 == slabs.number);
    }
}

template class DenseAdjoint<float>;
template class DenseAdjoint<double>;
template void dense_adjoint(std::vector<DenseBack<float>>&);
template void dense_adjoint(std::vector<DenseBack<double>>&);

}  // namespace spikeloop
