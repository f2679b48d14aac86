// When what happens to which neurons of one sample: stretches between arrivals, marks within them, and the flows over both. See
// dense_adjoint.cpp.

// Those that spiked or are looked at, the last to spike first; all of them where they are most: rows are then read whole.
template <class T>
void find_active(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request();
    scratch.place.assign(job.size(), -1);
    out.active.clear();
    const auto take = [&](int32_t m) {
        if (scratch.place[m] >= 0) return;
        scratch.place[m] = 0;
        out.active.push_back(m);
    };
    for (int64_t e = r.spikes.start[out.sample + 1]; e-- > r.spikes.start[out.sample];) take(r.spikes.unit[e]);
    if (!r.membrane.empty())
        for (const auto& c : r.membrane[out.sample]) take(c.unit);
    if (int64_t(out.active.size()) * 2 > job.size()) {
        out.active.resize(job.size());
        std::iota(out.active.begin(), out.active.end(), 0);
    }
    for (size_t p = 0; p < out.active.size(); ++p) scratch.place[out.active[p]] = int32_t(p);
    out.neuron.assign(r.want_neuron ? out.active.size() : 0, {});
}

template <class T>
void make_marks(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request();
    const int32_t last = int32_t(out.arrivals.size());
    if (scratch.marks.size() < out.active.size()) scratch.marks.resize(out.active.size());
    for (size_t p = 0; p < out.active.size(); ++p) {
        scratch.marks[p].clear();
        if (r.start.held) add_start_mark(scratch.marks[p], r.start.held[out.sample * job.size() + out.active[p]], r.duration);
    }
    int32_t stretch = 0;
    for (int64_t e = r.spikes.start[out.sample]; e < r.spikes.start[out.sample + 1]; ++e) {
        const int32_t m = r.spikes.unit[e];
        while (stretch < last && scratch.time[stretch + 1] < r.spikes.time[e]) ++stretch;  // spikes are in order of time
        add_spike_marks(scratch.marks[scratch.place[m]], r.spikes.time[e], e, job.neuron[m], r.duration, stretch);
    }
    if (r.membrane.empty() || r.membrane[out.sample].empty()) return;
    auto& spike_marks = scratch.spike_marks;
    spike_marks.resize(out.active.size());
    for (size_t p = 0; p < out.active.size(); ++p) spike_marks[p] = scratch.marks[p].size();
    double unwanted = 0;
    for (const auto& c : r.membrane[out.sample]) {
        const int32_t p = scratch.place[c.unit];
        add_membrane_mark(scratch.marks[p], spike_marks[p], c, r.want_neuron ? out.neuron[p].threshold : unwanted);
    }
    for (size_t p = 0; p < out.active.size(); ++p) sort_marks(scratch.marks[p]);
}

template <class T>
void make_stretches(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const size_t count = out.arrivals.size() + 1;
    auto& time = scratch.time;
    time.assign(count + kDoubles, job.request().duration);
    time[0] = 0;
    scratch.stretches.resize(count), scratch.row.resize(count);
    for (size_t n = 0; n + 1 < count; ++n) {
        const Arrival& arrival = out.arrivals[n];
        time[n + 1] = arrival.time, scratch.row[n] = job.stage->sources[arrival.source].weight + arrival.unit * job.size();
    }
    if (!job.one_tau) return;
    const double a = job.neuron[0].a, b = job.neuron[0].b;
    for (size_t first = 0; first < count; first += kDoubles) {
        const Doubles dt = load(time.data() + first + 1) - load(time.data() + first);
        const Flows f = flows(dt, Rates{all_of(a), all_of(b), job.ratio});
        for (size_t k = 0; k < std::min<size_t>(kDoubles, count - first); ++k) {
            Interval<T>& s = scratch.stretches[first + k];
            s.em = T(f.em[k]), s.es = T(f.es[k]), s.g = T(f.g[k]), s.back = T(f.g[k] * b / a), s.leak = T((1 - f.em[k]) / a);
            if (!job.request().want_tau) continue;
            const StretchIntegrals c = stretch_integrals(dt[k], a, b, {f.em[k], f.es[k], f.g[k]});
            s.vv = T(c.vv), s.vi = T(c.vi), s.ii = T(c.ii), s.iv = T(c.iv);
        }
    }
}

// One neuron's marks: where the flows between them are kept (from every mark to the next, or to the end of its stretch, and
// before the first mark in a stretch the one from the stretch's beginning), and in which stretches there are any or V is held.
// Returns the last of those stretches.
template <class T>
size_t lay_out_marks(Scratch<T>& scratch, std::vector<Mark>& marks, bool held, uint32_t* close, uint32_t bit) {
    const double *begin = scratch.time.data(), *last = begin + scratch.stretches.size();  // `last`: the end
    size_t now = 0;
    const auto go_to = [&](size_t stretch) {
        if (held)
            for (; now < stretch; ++now) close[now] |= bit;
        now = stretch;
        close[now] |= bit;
    };
    for (size_t k = 0; k < marks.size(); ++k) {
        const size_t stretch = marks[k].stretch >= 0 ? marks[k].stretch : std::lower_bound(begin + now + 1, last, marks[k].time) - begin - 1;
        marks[k].stretch = int32_t(stretch);
        const double end = begin[stretch + 1];
        if (k == 0 || stretch > now) scratch.wait.push_back(marks[k].time - begin[stretch]);
        go_to(stretch);
        held = marks[k].held_after(held);
        marks[k].flow = int32_t(scratch.wait.size());
        scratch.wait.push_back((k + 1 < marks.size() && marks[k + 1].time <= end ? marks[k + 1].time : end) - marks[k].time);
    }
    if (held) go_to(scratch.stretches.size() - 1);
    return now;
}

// Flows between marks; blocks and how far they reach.
template <class T>
void make_flows(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    constexpr size_t N = Lanes<T>::N;
    const size_t blocks = (out.active.size() + N - 1) / N, stretches = scratch.stretches.size();
    scratch.close.assign(blocks * stretches, job.one_tau ? 0 : ~uint32_t(0));
    scratch.wait.clear(), scratch.a.clear(), scratch.b.clear();
    out.blocks.assign(blocks, {});
    for (size_t p = 0; p < out.active.size(); ++p) {
        const int64_t slot = out.sample * job.size() + out.active[p];
        const bool held = job.request().start.held && job.request().start.held[slot] > 0;
        const size_t last = lay_out_marks(scratch, scratch.marks[p], held, scratch.close.data() + p / N * stretches, uint32_t(1) << p % N);
        out.blocks[p / N].arrivals = std::max(out.blocks[p / N].arrivals, last);
        if (job.one_tau) continue;
        const Neuron& n = job.neuron[out.active[p]];
        scratch.a.resize(scratch.wait.size(), n.a), scratch.b.resize(scratch.wait.size(), n.b);
    }
    size_t charges = 0;
    for (Reach& block : out.blocks) block.offset = charges, charges += block.arrivals * N;
    out.charge.resize(charges);
    const size_t room = (scratch.wait.size() + kDoubles - 1) / kDoubles * kDoubles;
    scratch.wait.resize(room, 0.0), scratch.em.resize(room), scratch.es.resize(room), scratch.g.resize(room);
    if (!job.one_tau) scratch.a.resize(room, 1.0), scratch.b.resize(room, 1.0);
    for (size_t k = 0; k < room; k += kDoubles) {
        const Rates own = job.one_tau ? Rates{all_of(job.neuron[0].a), all_of(job.neuron[0].b), job.ratio}
                                      : Rates{load(scratch.a.data() + k), load(scratch.b.data() + k)};
        const Flows f = flows(load(scratch.wait.data() + k), own);
        store(scratch.em.data() + k, f.em), store(scratch.es.data() + k, f.es), store(scratch.g.data() + k, f.g);
    }
}
