// One sample's way back through one stage, and the sum over samples, see dense_adjoint.cpp.
#include "dense_timeline.inl"

// What an arrival brings to each lane.
template <class T>
SPIKELOOP_INLINE Vector<T> weights_of(const T* row, const Lanes<T>& x) {
    if (!x.side_by_side) return gather(row, x.column);
    return x.count == kLanes<T> ? load(row + x.column[0]) : load_some(row + x.column[0], x.count);
}

// A lane's flow over a whole stretch.
template <class T>
Flow whole(const Job<T>& job, const Scratch<T>& scratch, const Neuron& n, size_t stretch) {
    return job.one_tau ? scratch.stretches[stretch].flow() : flow(scratch.time[stretch + 1] - scratch.time[stretch], n.a, n.b);
}

// Replay one lane over a stretch, mark by mark, and note the current at each.
template <class T>
void replay_lane(const Job<T>& job, const Scratch<T>& scratch, Lanes<T>& x, int l, size_t stretch, double* kink) {
    const Neuron& n = x.neuron[l];
    const double end = scratch.time[stretch + 1];
    double v = x.v[l], i = x.i[l];
    const auto pass = [&](const Flow& f) {
        if (!x.held[l]) v = v * f.em + i * f.g;
        i *= f.es;
    };
    auto& marks = *x.marks[l];
    int64_t& k = x.next[l];
    const int64_t first = k;
    for (; k < int64_t(marks.size()) && marks[k].time <= end; ++k) {
        Mark& mark = marks[k];
        pass(scratch.flow(mark.flow - 1));
        mark.i = i;
        if (mark.kind == MarkKind::spike) v = n.reset;
        x.held[l] = mark.held_after(x.held[l]);
        if (mark.peak && kink && mark.time == end) *kink += mark.cotangent * n.a * (i - v);
        mark.v_after = v;
    }
    pass(k == first ? whole(job, scratch, n, stretch) : scratch.flow(marks[k - 1].flow));
    x.v[l] = T(v), x.i[l] = T(i);
}

// The same backwards.
template <class T>
void sweep_lane_back(const Job<T>& job, const Scratch<T>& scratch, Lanes<T>& x, int l, size_t stretch, double v0, double i0, SlopeFloor& slope) {
    const Neuron& n = x.neuron[l];
    const double begin = scratch.time[stretch];
    Adjoint adjoint{double(x.lv[l]), double(x.li[l])};
    NeuronGradient& grad = x.gradient[l];
    double t = scratch.time[stretch + 1];
    const auto back_to = [&](double time, const Flow& f, double v, double i) {
        if (x.held[l])
            flow_back_held(n, adjoint, t - time, f.es, i, grad);
        else
            flow_back_free(n, adjoint, t - time, f, v, i, job.request().want_tau, grad);
        t = time;
    };
    const auto& marks = *x.marks[l];
    int64_t& k = x.next[l];
    const int64_t last = k;
    for (; k >= 0 && (stretch == 0 || marks[k].time > begin); --k) {
        back_to(marks[k].time, scratch.flow(marks[k].flow), marks[k].v_after, marks[k].i);
        mark_back(n, marks[k], adjoint, x.held[l], job.request().time_cotangent, slope, grad);
    }
    back_to(begin, k == last ? whole(job, scratch, n, stretch) : scratch.flow(marks[k + 1].flow - 1), v0, i0);
    x.lv[l] = T(adjoint.v), x.li[l] = T(adjoint.i);
}

template <class T>
void open_lanes(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, size_t begin, Lanes<T>& x) {
    x.count = int(std::min<size_t>(Lanes<T>::N, out.active.size() - begin));
    for (int l = 0; l < Lanes<T>::N; ++l) {
        const size_t p = begin + std::min(l, x.count - 1);
        const int32_t m = out.active[p];
        x.column[l] = m;
        x.v[l] = x.i[l] = x.lv[l] = x.li[l] = x.leak[l] = x.tau_mem[l] = x.tau_syn[l] = 0;
        if (l >= x.count) continue;
        x.neuron[l] = job.neuron[m], x.marks[l] = &scratch.marks[p];
        const State s = initial_state(x.neuron[l], job.request().start, job.stage->neurons.leak[m], out.sample * job.size() + m);
        x.v[l] = T(s.v), x.i[l] = T(s.i);
        x.held[l] = s.free > 0, x.next[l] = 0, x.gradient[l] = {};
    }
    x.side_by_side = true;
    for (int l = 1; l < x.count; ++l) x.side_by_side &= x.column[l] == x.column[0] + l;
}

// Calls `visit(lane)` for every bit below `count`.
template <class Visit>
SPIKELOOP_INLINE void for_each_lane(uint32_t bits, int count, Visit&& visit) {
    for (bits &= uint32_t((uint64_t(1) << count) - 1); bits; bits &= bits - 1) visit(__builtin_ctz(bits));
}

// All lanes over a stretch in which those of `marked` have to be treated one by one.
template <class T>
__attribute__((noinline)) void replay_marked(const Job<T>& job, Scratch<T>& scratch, Lanes<T>& x, size_t n, uint32_t marked) {
    const Interval<T>& s = scratch.stretches[n];
    const Vector<T> v = load(x.v), i = load(x.i);
    alignas(64) T next_v[kLanes<T>], next_i[kLanes<T>];
    store(next_v, v * s.em + i * s.g), store(next_i, i * s.es);
    double* kink = n < scratch.arrival.size() && job.want_arrival_time ? &scratch.arrival[n] : nullptr;
    for_each_lane(marked, x.count, [&](int l) {
        replay_lane(job, scratch, x, l, n, kink);
        next_v[l] = x.v[l], next_i[l] = x.i[l];
    });
    std::memcpy(x.v, next_v, sizeof next_v), std::memcpy(x.i, next_i, sizeof next_i);
}

// The currents at all marks where nothing else is wanted of the way there: spikes do not change them.
template <class T>
void replay_currents(Scratch<T>& scratch, size_t reach, bool keep_weights, Lanes<T>& x) {
    constexpr int N = Lanes<T>::N;
    scratch.i0.resize((reach + 1) * N), scratch.weight.resize(keep_weights ? reach * N : 0);
    const T* const* row = scratch.row.data();
    const Interval<T>* s = scratch.stretches.data();
    T *i0 = scratch.i0.data(), *weight = scratch.weight.data();
    Vector<T> i = load(x.i);
    for (size_t n = 0; n < reach; ++n) {
        store(i0 + n * N, i);
        const Vector<T> w = weights_of(row[n], x);
        if (keep_weights) store(weight + n * N, w);
        i = i * s[n].es + w;
    }
    store(i0 + reach * N, i);
    for (int l = 0; l < x.count; ++l) {
        auto& marks = *x.marks[l];
        x.next[l] = int64_t(marks.size()) - 1;
        double now = 0;
        int32_t stretch = -1;
        for (Mark& mark : marks) {
            if (mark.stretch != stretch) stretch = mark.stretch, now = double(i0[stretch * N + l]);
            mark.i = now *= scratch.es[mark.flow - 1];
        }
        if (!marks.empty()) x.held[l] = marks.back().held_after(x.held[l]);
    }
}

// The currents at all marks, from the first stretch to the last with any.
template <class T>
void replay(const Job<T>& job, Scratch<T>& scratch, size_t reach, const uint32_t* close, Lanes<T>& x) {
    constexpr int N = Lanes<T>::N;
    const bool want_tau = job.request().want_tau;
    if (want_tau) scratch.v0.resize((reach + 1) * N), scratch.i0.resize((reach + 1) * N);
    scratch.weight.resize(reach * N);
    const T* const* row = scratch.row.data();
    const Interval<T>* s = scratch.stretches.data();
    T* weight = scratch.weight.data();
    Vector<T> v = load(x.v), i = load(x.i);
    for (size_t n = 0;; ++n) {
        if (want_tau) store(scratch.v0.data() + n * N, v), store(scratch.i0.data() + n * N, i);
        if (close[n]) {
            store(x.v, v), store(x.i, i);
            replay_marked(job, scratch, x, n, close[n]);
            v = load(x.v), i = load(x.i);
        } else {
            v = v * s[n].em + i * s[n].g, i *= s[n].es;
        }
        if (n == reach) break;
        const Vector<T> w = weights_of(row[n], x);
        store(weight + n * N, w);
        i += w;
    }
    for (int l = 0; l < x.count; ++l) x.next[l] = int64_t(x.marks[l]->size()) - 1;
}

// All lanes back over a stretch.
template <class T, bool Tau>
SPIKELOOP_INLINE void back_over(const Scratch<T>& scratch, Lanes<T>& x, size_t n, Vector<T>& lv, Vector<T>& li, Vector<T>& leak) {
    const Interval<T>& s = scratch.stretches[n];
    if constexpr (Tau) {
        const Vector<T> v0 = load(scratch.v0.data() + n * kLanes<T>), i0 = load(scratch.i0.data() + n * kLanes<T>);
        store(x.tau_mem, load(x.tau_mem) + lv * (i0 * s.vi - v0 * s.vv));
        store(x.tau_syn, load(x.tau_syn) - i0 * (li * s.ii + lv * s.iv));
    }
    leak -= lv * s.leak;
    li = li * s.es + lv * s.back, lv *= s.em;
}

template <class T, bool Tau>
__attribute__((noinline)) void back_over_marked(const Job<T>& job, const Scratch<T>& scratch, Lanes<T>& x, size_t n, uint32_t marked, SlopeFloor& slope) {
    constexpr int N = kLanes<T>;
    alignas(64) T far_lv[N], far_li[N];  // the others go on side by side
    std::memcpy(far_lv, x.lv, sizeof far_lv), std::memcpy(far_li, x.li, sizeof far_li);
    for_each_lane(marked, x.count, [&](int l) {
        sweep_lane_back(job, scratch, x, l, n, Tau ? scratch.v0[n * N + l] : 0, Tau ? scratch.i0[n * N + l] : 0, slope);
        far_lv[l] = far_li[l] = 0;
    });
    Vector<T> lv = load(far_lv), li = load(far_li), leak = load(x.leak);
    back_over<T, Tau>(scratch, x, n, lv, li, leak);
    store(x.leak, leak), store(far_lv, lv), store(far_li, li);
    for_each_lane(marked, x.count, [&](int l) { far_lv[l] = x.lv[l], far_li[l] = x.li[l]; });
    std::memcpy(x.lv, far_lv, sizeof far_lv), std::memcpy(x.li, far_li, sizeof far_li);
}

template <class T, bool Tau>
void sweep_back(const Job<T>& job, Scratch<T>& scratch, size_t reach, const uint32_t* close, Lanes<T>& x, T* charge, SlopeFloor& slope) {
    constexpr int N = Lanes<T>::N;
    Vector<T> lv{}, li{}, leak{}, charge_of{};
    for (int l = 0; l < x.count; ++l) charge_of[l] = T(1 / x.neuron[l].b);
    const T* weight = scratch.weight.data();
    for (size_t n = reach;; --n) {
        if (close[n]) {
            store(x.lv, lv), store(x.li, li), store(x.leak, leak);
            back_over_marked<T, Tau>(job, scratch, x, n, close[n], slope);
            lv = load(x.lv), li = load(x.li), leak = load(x.leak);
        } else {
            back_over<T, Tau>(scratch, x, n, lv, li, leak);
        }
        if (n == 0) break;
        store(charge + (n - 1) * N, li * charge_of);
        if (job.want_arrival_time) scratch.arrival[n - 1] += total<T>(load(weight + (n - 1) * N) * (lv - li));
    }
    store(x.lv, lv), store(x.li, li), store(x.leak, leak);
    for (int l = 0; l < x.count; ++l)
        x.gradient[l].leak += x.leak[l], x.gradient[l].tau_mem += x.tau_mem[l], x.gradient[l].tau_syn += x.tau_syn[l];
}

// Of arrivals whose weights have gradients that are wanted.
template <class T>
void share_arrivals(const Job<T>& job, SampleAdjoint<T>& out) {
    out.shares.resize(job.shares);
    for (auto& share : out.shares) share.clear();
    for (size_t k = 0; k < out.arrivals.size(); ++k)
        if (job.stage->weight[out.arrivals[k].source]) out.shares[out.arrivals[k].unit % job.shares].push_back(int32_t(k));
}

template <class T>
void sample_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, Watch& watch) {
    constexpr int N = Lanes<T>::N;
    find_active(job, out, scratch);
    out.blocks.clear();
    if (out.active.empty()) return;
    gather_arrivals(job.stage->sources, {}, out.sample, job.request().duration, out.arrivals);
    share_arrivals(job, out);
    make_stretches(job, out, scratch);
    make_marks(job, out, scratch);
    make_flows(job, out, scratch);
    scratch.arrival.assign(out.arrivals.size(), 0.0);
    Lanes<T> x;
    for (size_t block = 0; block < out.blocks.size(); ++block) {
        watch.glance();
        open_lanes(job, out, scratch, block * N, x);
        Reach& reach = out.blocks[block];
        reach.side_by_side = x.side_by_side;
        const uint32_t* close = scratch.close.data() + block * scratch.stretches.size();
        T* charge = out.charge.data() + reach.offset;
        if (job.one_tau && !job.request().want_tau && job.request().membrane.empty())
            replay_currents(scratch, reach.arrivals, job.want_arrival_time, x);
        else
            replay(job, scratch, reach.arrivals, close, x);
        if (job.request().want_tau)
            sweep_back<T, true>(job, scratch, reach.arrivals, close, x, charge, out.slope);
        else
            sweep_back<T, false>(job, scratch, reach.arrivals, close, x, charge, out.slope);
        for (int l = 0; l < x.count && job.request().want_neuron; ++l) {
            start_back(x.neuron[l], {double(x.lv[l]), double(x.li[l])}, job.request().start.membrane != nullptr, x.gradient[l]);
            out.neuron[block * N + l] += x.gradient[l];
        }
    }
    for (size_t k = 0; k < out.arrivals.size() && job.want_arrival_time; ++k) {
        const Arrival& arrival = out.arrivals[k];
        for (double* time : {job.stage->time[arrival.source], job.stage->source_time[arrival.source]})
            if (time) time[arrival.event] += scratch.arrival[k];
    }
}

// Weight gradients of the presynaptic units that `share` owns, samples in order.
template <class T>
void add_weight_rows(const Job<T>& job, int64_t count, int64_t share) {
    constexpr int N = Lanes<T>::N;
    for (int64_t s = 0; s < count; ++s) {
        const SampleAdjoint<T>& out = job.samples[s];
        for (size_t block = 0; block < out.blocks.size(); ++block) {
            const Reach& reach = out.blocks[block];
            const int32_t* column = out.active.data() + block * N;
            const int lanes = int(std::min<size_t>(N, out.active.size() - block * N));
            const T* charge = out.charge.data() + reach.offset;
            for (const int32_t k : out.shares[share]) {
                if (size_t(k) >= reach.arrivals) break;
                const Arrival& arrival = out.arrivals[k];
                T* row = job.stage->weight[arrival.source] + arrival.unit * job.size();
                if (!reach.side_by_side)
                    for (int l = 0; l < lanes; ++l) row[column[l]] -= charge[k * N + l];
                else if (lanes == N)
                    store(row + column[0], load(row + column[0]) - load(charge + k * N));
                else
                    store_some(row + column[0], load_some(row + column[0], lanes) - load(charge + k * N), lanes);
            }
        }
    }
}
