// Adjoint of a dense feed-forward population: only neurons that spiked, or whose membrane the loss looks at, take part.
// They are packed into blocks of lanes; a block replays the currents forwards and sweeps the adjoint backwards over the
// sample's arrivals. Weight gradients are added up afterwards, sample by sample, so they do not depend on the threads.
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
    std::vector<int32_t> place;            // neuron -> position in `active`, -1
    std::vector<T> v0, i0;                 // (stretches, lanes) of the current block
    std::vector<double> arrival;           // dL/d arrival time
};

template <class T>
struct Lanes {
    static constexpr int N = kLanes<T>;
    alignas(64) T v[N], i[N], lv[N], li[N], leak[N], tau_mem[N], tau_syn[N], keep[N], charge[N];  // charge: tau_syn of the neuron
    int64_t column[N];
    bool side_by_side;  // the columns follow each other and fill the block
    int count;
    Neuron neuron[N];
    bool held[N], close[N];
    std::vector<Mark>* marks[N];
    int64_t next[N];  // the next mark, forwards or backwards
    NeuronGradient gradient[N];
    double soonest = -kInfinity;  // no lane has a mark or is held before it (forwards) or after it (backwards)
};

template <class T>
void find_active(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request;
    scratch.place.assign(job.neurons.size, -1);
    out.active.clear();
    const auto take = [&](int32_t m) {
        if (scratch.place[m] >= 0) return;
        scratch.place[m] = 0;
        out.active.push_back(m);
    };
    for (int64_t e = r.spikes.start[out.sample]; e < r.spikes.start[out.sample + 1]; ++e) take(r.spikes.unit[e]);
    if (!r.membrane.empty())
        for (const auto& c : r.membrane[out.sample]) take(c.unit);
    if (int64_t(out.active.size()) * 2 > job.neurons.size)  // most of them: take all, rows are then read and written whole
        for (int32_t m = 0; m < job.neurons.size; ++m) take(m);
    std::sort(out.active.begin(), out.active.end());
    for (size_t p = 0; p < out.active.size(); ++p) scratch.place[out.active[p]] = int32_t(p);
    out.neuron.assign(out.active.size(), {});
}

template <class T>
void make_marks(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request;
    if (scratch.marks.size() < out.active.size()) scratch.marks.resize(out.active.size());
    for (size_t p = 0; p < out.active.size(); ++p) {
        scratch.marks[p].clear();
        if (r.start.held) add_start_mark(scratch.marks[p], r.start.held[out.sample * job.neurons.size + out.active[p]], r.duration);
    }
    for (int64_t e = r.spikes.start[out.sample]; e < r.spikes.start[out.sample + 1]; ++e) {
        const int32_t m = r.spikes.unit[e];
        add_spike_marks(scratch.marks[scratch.place[m]], r.spikes.time[e], e, job.neuron[m], r.duration);
    }
    if (r.membrane.empty() || r.membrane[out.sample].empty()) return;
    std::vector<size_t> spike_marks(out.active.size());
    for (size_t p = 0; p < out.active.size(); ++p) spike_marks[p] = scratch.marks[p].size();
    for (const auto& c : r.membrane[out.sample]) {
        const int32_t p = scratch.place[c.unit];
        add_membrane_mark(scratch.marks[p], spike_marks[p], c, out.neuron[p].threshold);
    }
    for (size_t p = 0; p < out.active.size(); ++p) sort_marks(scratch.marks[p]);
}

template <class T>
void make_stretches(const Job<T>& job, const SampleAdjoint<T>& out, std::vector<Interval<T>>& stretches) {
    stretches.resize(out.arrivals.size() + 1);
    const double a = job.neuron[0].a, b = job.neuron[0].b;
    double now = 0;
    for (size_t n = 0; n < stretches.size(); ++n) {
        Interval<T>& s = stretches[n];
        s.begin = now;
        s.end = now = n < out.arrivals.size() ? out.arrivals[n].time : job.request.duration;
        if (!job.one_tau) continue;
        const Flow f = flow(s.end - s.begin, a, b);
        s.em = T(f.em), s.es = T(f.es), s.g = T(f.g), s.back = T(f.g * b / a), s.leak = T((1 - f.em) / a);
        if (!job.request.want_tau) continue;
        const StretchIntegrals c = stretch_integrals(s.end - s.begin, a, b, f);
        s.vv = T(c.vv), s.vi = T(c.vi), s.ii = T(c.ii), s.iv = T(c.iv);
    }
}

// Replay one lane over a stretch, mark by mark, and note the current at each.
template <class T>
void replay_lane(Lanes<T>& x, int l, const Interval<T>& stretch, double* kink) {
    const Neuron& n = x.neuron[l];
    double v = x.v[l], i = x.i[l], t = stretch.begin;
    const auto go_to = [&](double until) {
        if (until == t) return;
        const Flow f = flow(until - t, n.a, n.b);
        if (!x.held[l]) v = v * f.em + i * f.g;
        i *= f.es;
        t = until;
    };
    auto& marks = *x.marks[l];
    for (int64_t& k = x.next[l]; k < int64_t(marks.size()) && marks[k].time <= stretch.end; ++k) {
        Mark& mark = marks[k];
        go_to(mark.time);
        mark.i = i;
        if (mark.kind == MarkKind::spike) v = n.reset, x.held[l] = true;
        if (mark.kind == MarkKind::release) x.held[l] = false;
        if (mark.peak && kink && mark.time == stretch.end) *kink += mark.cotangent * n.a * (i - v);
        mark.v_after = v;
    }
    go_to(stretch.end);
    x.v[l] = T(v), x.i[l] = T(i);
}

// The same backwards.
template <class T>
void sweep_lane_back(const Job<T>& job, Lanes<T>& x, int l, const Interval<T>& stretch, bool first, double v0, double i0, SlopeFloor& slope) {
    const Neuron& n = x.neuron[l];
    const bool tau = job.request.want_tau;
    Adjoint adjoint{double(x.lv[l]), double(x.li[l])};
    NeuronGradient& grad = x.gradient[l];
    double t = stretch.end;
    const auto back_to = [&](double time, double v, double i) {
        if (x.held[l])
            flow_back_held(n, adjoint, t - time, i, grad);
        else
            flow_back_free(n, adjoint, t - time, v, i, tau, grad);
        t = time;
    };
    const auto& marks = *x.marks[l];
    for (int64_t& k = x.next[l]; k >= 0 && (first || marks[k].time > stretch.begin); --k) {
        back_to(marks[k].time, marks[k].v_after, marks[k].i);
        mark_back(n, marks[k], adjoint, x.held[l], job.request.time_cotangent, slope, grad);
    }
    back_to(stretch.begin, v0, i0);
    x.lv[l] = T(adjoint.v), x.li[l] = T(adjoint.i);
}

template <class T>
void open_lanes(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, size_t begin, Lanes<T>& x) {
    x.soonest = -kInfinity;
    x.count = int(std::min<size_t>(Lanes<T>::N, out.active.size() - begin));
    for (int l = 0; l < Lanes<T>::N; ++l) {
        const size_t p = begin + std::min(l, x.count - 1);
        const int32_t m = out.active[p];
        x.column[l] = m, x.neuron[l] = job.neuron[m], x.marks[l] = &scratch.marks[p];
        Request start;
        start.start = job.request.start;
        const State s = initial_state(x.neuron[l], start, job.neurons.leak[m], out.sample * job.neurons.size + m);
        x.v[l] = T(s.v), x.i[l] = T(s.i);
        x.lv[l] = x.li[l] = x.leak[l] = x.tau_mem[l] = x.tau_syn[l] = 0;
        x.held[l] = s.free > 0, x.charge[l] = T(1 / x.neuron[l].b);
        x.next[l] = 0, x.gradient[l] = {};
    }
    x.side_by_side = x.count == Lanes<T>::N && x.column[Lanes<T>::N - 1] - x.column[0] == Lanes<T>::N - 1;
}

// Lanes that a stretch has to treat one by one; false if there are none.
template <class T>
bool find_close(const Job<T>& job, Lanes<T>& x, const Interval<T>& stretch, bool forwards) {
    if (forwards ? stretch.end < x.soonest : stretch.begin >= x.soonest && stretch.begin > 0) return false;
    bool some = false, held = !job.one_tau;
    double soonest = forwards ? kInfinity : -kInfinity;
    for (int l = 0; l < x.count; ++l) {
        const auto& marks = *x.marks[l];
        held |= x.held[l];
        x.close[l] = !job.one_tau || x.held[l];
        if (forwards ? x.next[l] >= int64_t(marks.size()) : x.next[l] < 0) continue;
        const double time = marks[x.next[l]].time;
        soonest = forwards ? std::min(soonest, time) : std::max(soonest, time);
        if (forwards ? time <= stretch.end : time > stretch.begin || stretch.begin == 0) x.close[l] = true;
    }
    for (int l = 0; l < x.count; ++l) some |= x.close[l];
    for (int l = x.count; l < Lanes<T>::N; ++l) x.close[l] = false;
    x.soonest = held || some ? (forwards ? -kInfinity : kInfinity) : soonest;
    return some;
}

template <class T>
SPIKELOOP_INLINE void replay(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, Lanes<T>& x) {
    constexpr int N = Lanes<T>::N;
    const size_t count = scratch.stretches.size();
    if (job.request.want_tau) scratch.v0.resize(count * N), scratch.i0.resize(count * N);
    for (size_t n = 0; n < count; ++n) {
        if (n > 0) {
            const Arrival& arrival = out.arrivals[n - 1];
            const T* row = job.sources[arrival.source].weight + arrival.unit * job.neurons.size;
            if (x.side_by_side)
                for (int l = 0; l < N; ++l) x.i[l] += row[x.column[0] + l];
            else
                for (int l = 0; l < N; ++l) x.i[l] += row[x.column[l]];
        }
        const Interval<T>& s = scratch.stretches[n];
        if (job.request.want_tau) {
            std::copy_n(x.v, N, scratch.v0.data() + n * N);
            std::copy_n(x.i, N, scratch.i0.data() + n * N);
        }
        T before_v[N], before_i[N];
        const bool close = find_close(job, x, s, true);
        if (close) std::copy_n(x.v, N, before_v), std::copy_n(x.i, N, before_i);
        for (int l = 0; l < N; ++l) x.v[l] = x.v[l] * s.em + x.i[l] * s.g, x.i[l] *= s.es;
        if (!close) continue;
        double* kink = n < out.arrivals.size() && job.want_arrival_time ? &scratch.arrival[n] : nullptr;
        for (int l = 0; l < x.count; ++l) {
            if (!x.close[l]) continue;
            x.v[l] = before_v[l], x.i[l] = before_i[l];
            replay_lane(x, l, s, kink);
        }
    }
    for (int l = 0; l < N; ++l) x.next[l] = int64_t(x.marks[l]->size()) - 1;
    x.soonest = kInfinity;
}

template <class T>
SPIKELOOP_INLINE void sweep_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, Lanes<T>& x, T* charge) {
    constexpr int N = Lanes<T>::N;
    const bool tau = job.request.want_tau;
    for (size_t n = scratch.stretches.size(); n-- > 0;) {
        const Interval<T>& s = scratch.stretches[n];
        T close_lv[N], close_li[N];
        const bool close = find_close(job, x, s, false);
        const T *v0 = tau ? scratch.v0.data() + n * N : nullptr, *i0 = tau ? scratch.i0.data() + n * N : nullptr;
        for (int l = 0; l < N; ++l) x.keep[l] = 1;
        if (close)
            for (int l = 0; l < x.count; ++l) {
                if (!x.close[l]) continue;
                sweep_lane_back(job, x, l, s, n == 0, tau ? v0[l] : 0, tau ? i0[l] : 0, out.slope);
                close_lv[l] = x.lv[l], close_li[l] = x.li[l], x.keep[l] = 0;
                x.lv[l] = x.li[l] = 0;
            }
        if (tau)
            for (int l = 0; l < N; ++l) {
                x.tau_mem[l] += x.keep[l] * (x.lv[l] * (i0[l] * s.vi - v0[l] * s.vv));
                x.tau_syn[l] -= x.keep[l] * (i0[l] * (x.li[l] * s.ii + x.lv[l] * s.iv));
            }
        for (int l = 0; l < N; ++l) {
            x.leak[l] -= x.keep[l] * x.lv[l] * s.leak;
            x.li[l] = x.li[l] * s.es + x.lv[l] * s.back;
            x.lv[l] *= s.em;
        }
        if (close)
            for (int l = 0; l < x.count; ++l)
                if (x.close[l]) x.lv[l] = close_lv[l], x.li[l] = close_li[l];
        if (n == 0) break;
        T* at = charge + (n - 1) * N;
        for (int l = 0; l < N; ++l) at[l] = x.li[l] * x.charge[l];
        if (!job.want_arrival_time) continue;
        const Arrival& arrival = out.arrivals[n - 1];
        const T* row = job.sources[arrival.source].weight + arrival.unit * job.neurons.size;
        T part[N], sum = 0;
        if (x.side_by_side)
            for (int l = 0; l < N; ++l) part[l] = row[x.column[0] + l] * (x.lv[l] - x.li[l]);
        else
            for (int l = 0; l < N; ++l) part[l] = row[x.column[l]] * (x.lv[l] - x.li[l]);
        for (int l = 0; l < N; ++l) sum += part[l];
        scratch.arrival[n - 1] += double(sum);
    }
}

template <class T>
SPIKELOOP_INLINE void sample_back_any(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, DenseGradient<T>& gradient) {
    constexpr int N = Lanes<T>::N;
    find_active(job, out, scratch);
    gather_arrivals(job.sources, out.sample, job.request.duration, out.arrivals);
    const size_t blocks = (out.active.size() + N - 1) / N;
    out.charge.resize(blocks * out.arrivals.size() * N);
    if (out.active.empty()) return;
    make_marks(job, out, scratch);
    make_stretches(job, out, scratch.stretches);
    scratch.arrival.assign(out.arrivals.size(), 0.0);
    Lanes<T> x;
    for (size_t block = 0; block < blocks; ++block) {
        open_lanes(job, out, scratch, block * N, x);
        replay(job, out, scratch, x);
        sweep_back(job, out, scratch, x, out.charge.data() + block * out.arrivals.size() * N);
        for (int l = 0; l < x.count; ++l) {
            NeuronGradient& g = x.gradient[l];
            g.leak += x.leak[l], g.tau_mem += x.tau_mem[l], g.tau_syn += x.tau_syn[l];
            start_back(x.neuron[l], {double(x.lv[l]), double(x.li[l])}, job.request.start.membrane != nullptr, g);
            out.neuron[block * N + l] += g;
        }
    }
    for (size_t k = 0; k < out.arrivals.size(); ++k) {
        const Arrival& arrival = out.arrivals[k];
        if (gradient.time[arrival.source]) gradient.time[arrival.source][arrival.event] = scratch.arrival[k];
    }
}

#define SPIKELOOP_BACK(T, NAME)                                                                                  \
    SPIKELOOP_MULTIARCH void NAME(const Job<T>& j, SampleAdjoint<T>& o, Scratch<T>& s, DenseGradient<T>& g) { \
        sample_back_any(j, o, s, g);                                                                              \
    }                                                                                                            \
    void sample_back(const Job<T>& j, SampleAdjoint<T>& o, Scratch<T>& s, DenseGradient<T>& g) { NAME(j, o, s, g); }
SPIKELOOP_BACK(float, sample_back_float)
SPIKELOOP_BACK(double, sample_back_double)

// Weight gradients of the presynaptic units that `share` owns, samples in order.
template <class T>
void add_weight_rows(const Job<T>& job, const std::vector<SampleAdjoint<T>>& samples, int64_t count, int64_t share, int64_t shares,
                     DenseGradient<T>& gradient) {
    constexpr int N = Lanes<T>::N;
    for (int64_t s = 0; s < count; ++s) {
        const SampleAdjoint<T>& out = samples[s];
        for (size_t block = 0; block * N < out.active.size(); ++block) {
            const int32_t* column = out.active.data() + block * N;
            const int lanes = int(std::min<size_t>(N, out.active.size() - block * N));
            const T* charge = out.charge.data() + block * out.arrivals.size() * N;
            for (size_t k = 0; k < out.arrivals.size(); ++k) {
                const Arrival& arrival = out.arrivals[k];
                T* weight = gradient.weight[arrival.source];
                if (!weight || arrival.unit % shares != share) continue;
                T* row = weight + arrival.unit * job.neurons.size;
                if (lanes == N && column[N - 1] - column[0] == N - 1) {
                    store(row + column[0], load(row + column[0]) - load(charge + k * N));
                    continue;
                }
                for (int l = 0; l < lanes; ++l) row[column[l]] -= charge[k * N + l];
            }
        }
    }
}

}  // namespace

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
            thread_local Scratch<T> scratch;
            samples[s].sample = first + s;
            samples[s].slope = {request.slope_floor};
            sample_back(job, samples[s], scratch, gradient);
        });
        if (want_weight)
            parallel_for(threads, threads, 1,
                         [&](int64_t share) { add_weight_rows(job, samples, count, share, threads, gradient); });
        for (int64_t s = 0; s < count; ++s) {
            for (size_t p = 0; p < samples[s].active.size(); ++p) gradient.neuron[samples[s].active[p]] += samples[s].neuron[p];
            gradient.slope.acted += samples[s].slope.acted, gradient.slope.spikes += samples[s].slope.spikes;
        }
    }
}

template void dense_adjoint(const std::vector<DenseSource<float>>&, const Neurons&, const Backward&, DenseGradient<float>&);
template void dense_adjoint(const std::vector<DenseSource<double>>&, const Neurons&, const Backward&, DenseGradient<double>&);

}  // namespace spikeloop
