// One sample's way through the adjoint, and the sum over samples, see dense_adjoint.cpp.

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
    if (int64_t(out.active.size()) * 2 > job.neurons.size) {  // most of them: take all, rows are then read and written whole
        out.active.resize(job.neurons.size);
        std::iota(out.active.begin(), out.active.end(), 0);
    } else {
        std::sort(out.active.begin(), out.active.end());
    }
    for (size_t p = 0; p < out.active.size(); ++p) scratch.place[out.active[p]] = int32_t(p);
    out.neuron.assign(r.want_neuron ? out.active.size() : 0, {});
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
    double unwanted = 0;
    for (const auto& c : r.membrane[out.sample]) {
        const int32_t p = scratch.place[c.unit];
        add_membrane_mark(scratch.marks[p], spike_marks[p], c, r.want_neuron ? out.neuron[p].threshold : unwanted);
    }
    for (size_t p = 0; p < out.active.size(); ++p) sort_marks(scratch.marks[p]);
}

template <class T>
void make_stretches(const Job<T>& job, const SampleAdjoint<T>& out, std::vector<Interval<T>>& stretches) {
    stretches.resize(out.arrivals.size() + 1);
    double now = 0;
    for (size_t n = 0; n < stretches.size(); ++n) {
        stretches[n].begin = now;
        stretches[n].end = now = n < out.arrivals.size() ? out.arrivals[n].time : job.request.duration;
    }
    if (!job.one_tau) return;
    const double a = job.neuron[0].a, b = job.neuron[0].b;
    for (size_t first = 0; first < stretches.size(); first += kDoubles) {
        const size_t count = std::min<size_t>(kDoubles, stretches.size() - first);
        Doubles dt = all_of(0);
        for (size_t k = 0; k < count; ++k) dt[k] = stretches[first + k].end - stretches[first + k].begin;
        const Flows f = flows(dt, all_of(a), all_of(b));
        for (size_t k = 0; k < count; ++k) {
            Interval<T>& s = stretches[first + k];
            s.em = T(f.em[k]), s.es = T(f.es[k]), s.g = T(f.g[k]), s.back = T(f.g[k] * b / a), s.leak = T((1 - f.em[k]) / a);
            if (!job.request.want_tau) continue;
            const StretchIntegrals c = stretch_integrals(dt[k], a, b, {f.em[k], f.es[k], f.g[k]});
            s.vv = T(c.vv), s.vi = T(c.vi), s.ii = T(c.ii), s.iv = T(c.iv);
        }
    }
}

// One neuron's marks: where the flows between them are kept (from every mark to the next, or to the end of its stretch, and
// before the first mark in a stretch the one from the stretch's beginning), and in which stretches there are any or V is held.
template <class T>
void lay_out_marks(Scratch<T>& scratch, std::vector<Mark>& marks, bool held, uint32_t* close, uint32_t bit) {
    const auto& stretches = scratch.stretches;
    size_t now = 0;
    const auto go_to = [&](size_t stretch) {
        if (held)
            for (; now < stretch; ++now) close[now] |= bit;
        now = stretch;
        close[now] |= bit;
    };
    for (size_t k = 0; k < marks.size(); ++k) {
        size_t stretch = now;
        while (stretches[stretch].end < marks[k].time) ++stretch;
        const double begin = stretches[stretch].begin, end = stretches[stretch].end;
        if (k == 0 || stretch > now) scratch.wait.push_back(marks[k].time - begin);
        go_to(stretch);
        if (marks[k].kind != MarkKind::sample) held = marks[k].kind == MarkKind::spike;
        marks[k].flow = int32_t(scratch.wait.size());
        scratch.wait.push_back((k + 1 < marks.size() && marks[k + 1].time <= end ? marks[k + 1].time : end) - marks[k].time);
    }
    if (held) go_to(stretches.size() - 1);
}

template <class T>
void make_flows(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch) {
    constexpr size_t N = Lanes<T>::N;
    const size_t blocks = (out.active.size() + N - 1) / N, stretches = scratch.stretches.size();
    scratch.close.assign(blocks * stretches, job.one_tau ? 0 : ~uint32_t(0));
    scratch.wait.clear(), scratch.a.clear(), scratch.b.clear();
    for (size_t p = 0; p < out.active.size(); ++p) {
        const int64_t slot = out.sample * job.neurons.size + out.active[p];
        const bool held = job.request.start.held && job.request.start.held[slot] > 0;
        lay_out_marks(scratch, scratch.marks[p], held, scratch.close.data() + p / N * stretches, uint32_t(1) << p % N);
        const Neuron& n = job.neuron[out.active[p]];
        scratch.a.resize(scratch.wait.size(), n.a), scratch.b.resize(scratch.wait.size(), n.b);
    }
    const size_t room = (scratch.wait.size() + kDoubles - 1) / kDoubles * kDoubles;
    scratch.wait.resize(room, 0.0), scratch.a.resize(room, 1.0), scratch.b.resize(room, 1.0);
    scratch.em.resize(room), scratch.es.resize(room), scratch.g.resize(room);
    for (size_t k = 0; k < room; k += kDoubles) {
        const Flows f = flows(load(scratch.wait.data() + k), load(scratch.a.data() + k), load(scratch.b.data() + k));
        store(scratch.em.data() + k, f.em), store(scratch.es.data() + k, f.es), store(scratch.g.data() + k, f.g);
    }
}

// A lane's flow over a whole stretch.
template <class T>
Flow whole(const Job<T>& job, const Neuron& n, const Interval<T>& stretch) {
    return job.one_tau ? stretch.flow() : flow(stretch.end - stretch.begin, n.a, n.b);
}

// Replay one lane over a stretch, mark by mark, and note the current at each.
template <class T>
void replay_lane(const Job<T>& job, const Scratch<T>& scratch, Lanes<T>& x, int l, const Interval<T>& stretch, double* kink) {
    const Neuron& n = x.neuron[l];
    double v = x.v[l], i = x.i[l];
    const auto pass = [&](const Flow& f) {
        if (!x.held[l]) v = v * f.em + i * f.g;
        i *= f.es;
    };
    auto& marks = *x.marks[l];
    int64_t& k = x.next[l];
    const int64_t first = k;
    for (; k < int64_t(marks.size()) && marks[k].time <= stretch.end; ++k) {
        Mark& mark = marks[k];
        pass(scratch.flow(mark.flow - 1));
        mark.i = i;
        if (mark.kind == MarkKind::spike) v = n.reset, x.held[l] = true;
        if (mark.kind == MarkKind::release) x.held[l] = false;
        if (mark.peak && kink && mark.time == stretch.end) *kink += mark.cotangent * n.a * (i - v);
        mark.v_after = v;
    }
    pass(k == first ? whole(job, n, stretch) : scratch.flow(marks[k - 1].flow));
    x.v[l] = T(v), x.i[l] = T(i);
}

// The same backwards.
template <class T>
void sweep_lane_back(const Job<T>& job, const Scratch<T>& scratch, Lanes<T>& x, int l, const Interval<T>& stretch, bool first, double v0,
                     double i0, SlopeFloor& slope) {
    const Neuron& n = x.neuron[l];
    Adjoint adjoint{double(x.lv[l]), double(x.li[l])};
    NeuronGradient& grad = x.gradient[l];
    double t = stretch.end;
    const auto back_to = [&](double time, const Flow& f, double v, double i) {
        if (x.held[l])
            flow_back_held(n, adjoint, t - time, f.es, i, grad);
        else
            flow_back_free(n, adjoint, t - time, f, v, i, job.request.want_tau, grad);
        t = time;
    };
    const auto& marks = *x.marks[l];
    int64_t& k = x.next[l];
    const int64_t last = k;
    for (; k >= 0 && (first || marks[k].time > stretch.begin); --k) {
        back_to(marks[k].time, scratch.flow(marks[k].flow), marks[k].v_after, marks[k].i);
        mark_back(n, marks[k], adjoint, x.held[l], job.request.time_cotangent, slope, grad);
    }
    back_to(stretch.begin, k == last ? whole(job, n, stretch) : scratch.flow(marks[k + 1].flow - 1), v0, i0);
    x.lv[l] = T(adjoint.v), x.li[l] = T(adjoint.i);
}

template <class T>
void open_lanes(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, size_t begin, Lanes<T>& x) {
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

template <class T>
void replay(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, const uint32_t* close, Lanes<T>& x) {
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
        if (close[n]) std::copy_n(x.v, N, before_v), std::copy_n(x.i, N, before_i);
        for (int l = 0; l < N; ++l) x.v[l] = x.v[l] * s.em + x.i[l] * s.g, x.i[l] *= s.es;
        if (!close[n]) continue;
        double* kink = n < out.arrivals.size() && job.want_arrival_time ? &scratch.arrival[n] : nullptr;
        for (int l = 0; l < x.count; ++l) {
            if (!(close[n] >> l & 1)) continue;
            x.v[l] = before_v[l], x.i[l] = before_i[l];
            replay_lane(job, scratch, x, l, s, kink);
        }
    }
    for (int l = 0; l < N; ++l) x.next[l] = int64_t(x.marks[l]->size()) - 1;
}

template <class T>
void sweep_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, const uint32_t* close, Lanes<T>& x, T* charge) {
    constexpr int N = Lanes<T>::N;
    const bool tau = job.request.want_tau;
    for (size_t n = scratch.stretches.size(); n-- > 0;) {
        const Interval<T>& s = scratch.stretches[n];
        T close_lv[N], close_li[N];
        const T *v0 = tau ? scratch.v0.data() + n * N : nullptr, *i0 = tau ? scratch.i0.data() + n * N : nullptr;
        for (int l = 0; l < N; ++l) x.keep[l] = 1;
        if (close[n])
            for (int l = 0; l < x.count; ++l) {
                if (!(close[n] >> l & 1)) continue;
                sweep_lane_back(job, scratch, x, l, s, n == 0, tau ? v0[l] : 0, tau ? i0[l] : 0, out.slope);
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
        if (close[n])
            for (int l = 0; l < x.count; ++l)
                if (close[n] >> l & 1) x.lv[l] = close_lv[l], x.li[l] = close_li[l];
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
void sample_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, DenseGradient<T>& gradient) {
    constexpr int N = Lanes<T>::N;
    find_active(job, out, scratch);
    gather_arrivals(job.sources, {}, out.sample, job.request.duration, out.arrivals);
    const size_t blocks = (out.active.size() + N - 1) / N;
    out.charge.resize(blocks * out.arrivals.size() * N);
    if (out.active.empty()) return;
    make_marks(job, out, scratch);
    make_stretches(job, out, scratch.stretches);
    make_flows(job, out, scratch);
    scratch.arrival.assign(out.arrivals.size(), 0.0);
    Lanes<T> x;
    for (size_t block = 0; block < blocks; ++block) {
        open_lanes(job, out, scratch, block * N, x);
        const uint32_t* close = scratch.close.data() + block * scratch.stretches.size();
        replay(job, out, scratch, close, x);
        sweep_back(job, out, scratch, close, x, out.charge.data() + block * out.arrivals.size() * N);
        for (int l = 0; l < x.count && job.request.want_neuron; ++l) {
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
