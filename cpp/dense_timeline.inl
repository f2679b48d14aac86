// When what happens to which neurons of one sample: arrivals, marks, and the modes at both. See dense_adjoint.cpp.

// Those that spiked or are looked at, in order, and how many marks they may have.
template <class T>
void find_active(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request();
    scratch.seen.assign(job.size() / 64 + 1, 0), scratch.room.assign(job.size(), r.start.held ? 1 : 0);
    const auto see = [&](int32_t m, int marks) { scratch.seen[m / 64] |= uint64_t(1) << m % 64, scratch.room[m] += marks; };
    for (int64_t e = r.spikes.start[out.sample]; e < r.spikes.start[out.sample + 1]; ++e) see(r.spikes.unit[e], kMarksOfSpike);
    if (!r.membrane.empty())
        for (const auto& c : r.membrane[out.sample]) see(c.unit, 1);
    out.active.clear();
    for (size_t word = 0; word < scratch.seen.size(); ++word)
        for (uint64_t bits = scratch.seen[word]; bits; bits &= bits - 1) out.active.push_back(int32_t(word * 64 + __builtin_ctzll(bits)));
    out.neuron.assign(r.want_neuron ? out.active.size() : 0, {});
    scratch.blocks.clear();
    for (int32_t a = 0; a < int32_t(out.active.size()); ++a) {
        const int32_t block = out.active[a] / kLanes<T>;
        if (scratch.blocks.empty() || scratch.blocks.back().block != block) scratch.blocks.push_back({block, a, a});
        scratch.blocks.back().end = a + 1;
    }
}

// Room for so many arrivals.
template <class T>
void make_arrival_room(SampleAdjoint<T>& out, Scratch<T>& scratch, size_t count) {
    scratch.arrivals = count;
    scratch.time.resize(count + kDoubles), scratch.row.resize(count), out.row.resize(count);
    store(scratch.time.data() + count, Doubles{});
}

// Where there is one source, with one delay, arrivals are its events as they stand; if these are in order.
template <class T>
bool find_events(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    if (job.stage->sources.size() != 1 || job.stage->sources[0].delay_per_unit) return false;
    const DenseSource<T>& source = job.stage->sources[0];
    const Trains& events = source.trains;
    int64_t first = events.start[out.sample], last = events.start[out.sample + 1];
    const double begin = job.request().begin, end = begin + job.request().duration, lag = first < last ? source.delay[0] : 0.0;  // of no units there may be none
    while (first < last && events.time[first] + lag < begin) ++first;
    while (first < last && !(events.time[last - 1] + lag < end)) --last;
    const size_t count = size_t(last - first);
    scratch.gathered.clear(), scratch.first_event = first;
    make_arrival_room(out, scratch, count);
    const double* from = events.time + first;
    const int32_t* unit = events.unit + first;
    double* time = scratch.time.data();
    for (size_t k = 0; k < count; ++k) time[k] = from[k] + lag - begin;
    int64_t early = 0;  // of those that come after another one, or are not a number
    for (size_t k = 1; k < count; ++k) early += !(time[k - 1] <= time[k]);
    const auto put_rows = [&, size = job.size()](auto* rows, auto* weight) {
        for (size_t k = 0; k < count; ++k) rows[k] = weight + unit[k] * size;
    };
    put_rows(scratch.row.data(), source.weight);
    if (T* gradient = job.stage->weight[0])
        put_rows(out.row.data(), gradient);
    else
        std::fill_n(out.row.data(), count, nullptr);
    return early == 0;
}

template <class T>
void find_arrivals(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const double begin = job.request().begin;
    if (!find_events(job, out, scratch)) {
        gather_arrivals(job.stage->sources, {}, out.sample, begin, begin + job.request().duration, scratch.gathered);
        make_arrival_room(out, scratch, scratch.gathered.size());
        for (size_t k = 0; k < scratch.arrivals; ++k) {
            const Arrival& arrival = scratch.gathered[k];
            const int64_t row = arrival.unit * job.size();
            T* gradient = job.stage->weight[arrival.source];
            scratch.row[k] = job.stage->sources[arrival.source].weight + row, out.row[k] = gradient ? gradient + row : nullptr;
            scratch.time[k] = arrival.time - begin;
        }
    }
    const size_t count = job.leaps ? scratch.arrivals : 0;
    scratch.anchor.resize(count), scratch.first.resize(count);
    if (job.leaps) scratch.since = scratch.time;
    for (size_t k = 0; k < count; ++k) {
        scratch.anchor[k] = job.anchor(scratch.time[k]);
        scratch.since[k] = scratch.time[k] - scratch.anchor[k] * job.span;
        scratch.first[k] = k > 0 && scratch.anchor[k] == scratch.anchor[k - 1] ? scratch.first[k - 1] : int32_t(k);
    }
}

template <class T>
void make_marks(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& r = job.request();
    const int32_t last = int32_t(scratch.arrivals);
    size_t room = 0;
    for (const int32_t m : out.active) room += scratch.room[m];
    if (scratch.all_marks.size() < room) scratch.all_marks.resize(room);
    scratch.marks.resize(std::max<size_t>(scratch.marks.size(), job.size()));
    Mark* place = scratch.all_marks.data();
    for (const int32_t m : out.active) {
        scratch.marks[m] = {place, place}, place += scratch.room[m];
        if (r.start.held) add_start_mark(scratch.marks[m], r.start.held[out.sample * job.size() + m], r.duration);
    }
    int32_t stretch = 0;
    for (int64_t e = r.spikes.start[out.sample]; e < r.spikes.start[out.sample + 1]; ++e) {
        const int32_t m = r.spikes.unit[e];
        const double time = r.spikes.time[e] - r.begin;
        while (stretch < last && scratch.time[stretch] < time) ++stretch;  // spikes are in order of time
        add_spike_marks(scratch.marks[m], time, e, job.neuron[m], r.duration, stretch);
        if (job.knows_currents()) scratch.marks[m].back().i = r.current[e];
    }
    if (r.membrane.empty() || r.membrane[out.sample].empty()) return;
    auto& spike_marks = scratch.spike_marks;
    spike_marks.resize(job.size());
    for (const int32_t m : out.active) spike_marks[m] = scratch.marks[m].size();
    double unwanted = 0;
    for (const auto& c : r.membrane[out.sample]) {
        const size_t p = std::lower_bound(out.active.begin(), out.active.end(), c.unit) - out.active.begin();
        const double given = r.start.held ? r.start.held[out.sample * job.size() + c.unit] : 0.0;
        add_membrane_mark(scratch.marks[c.unit], spike_marks[c.unit], c, r.begin, given, r.want_neuron ? out.neuron[p].threshold : unwanted);
    }
    for (const int32_t m : out.active) sort_marks(scratch.marks[m]);
}

// Room for what flows to `count` marks are made of: the time since its anchor and, unless all are equal, the rates of its neuron.
template <class T>
void make_flow_room(const Job<T>& job, Scratch<T>& scratch, size_t count) {
    const size_t room = (count + kDoubles - 1) / kDoubles * kDoubles;
    scratch.wait.assign(room, 0.0);
    for (auto* x : {&scratch.em, &scratch.es, &scratch.g, &scratch.back_m, &scratch.back_s}) x->resize(room);
    if (!job.one_tau) scratch.a.assign(room, 1.0), scratch.b.assign(room, 2.0);
}

template <class T>
void set_mark_flows(const Job<T>& job, Scratch<T>& scratch) {
    for (size_t k = 0; k < scratch.wait.size(); k += kDoubles) {
        const Rates own = job.one_tau ? Rates{all_of(job.neuron[0].a), all_of(job.neuron[0].b), job.ratio}
                                      : Rates{load(scratch.a.data() + k), load(scratch.b.data() + k)};
        const Flows f = flows(load(scratch.wait.data() + k), own);
        store(scratch.em.data() + k, f.em), store(scratch.es.data() + k, f.es), store(scratch.g.data() + k, f.g);
        store(scratch.back_m.data() + k, 1.0 / f.em), store(scratch.back_s.data() + k, 1.0 / f.es);
    }
}

// How many arrivals come before each mark, and the flow from its anchor to it. Returns how many come before any.
template <class T>
size_t place_marks(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const auto begin = scratch.time.begin(), end = begin + ptrdiff_t(scratch.arrivals);
    size_t count = 0;
    for (const int32_t m : out.active) count += scratch.marks[m].size();
    make_flow_room(job, scratch, count), scratch.mark_anchor.assign(count, 0);
    int32_t reach = 0, place = 0;
    for (const int32_t m : out.active) {
        int32_t stretch = 0;
        for (Mark& mark : scratch.marks[m]) {
            if (mark.stretch < 0) mark.stretch = int32_t(std::lower_bound(begin + stretch, end, mark.time) - begin);
            stretch = mark.stretch, mark.flow = place;
            if (job.leaps) scratch.mark_anchor[place] = job.anchor(mark.time);
            scratch.wait[place] = mark.time - scratch.mark_anchor[place] * job.span;
            if (!job.one_tau) scratch.a[place] = job.neuron[m].a, scratch.b[place] = job.neuron[m].b;
            ++place;
        }
        reach = std::max(reach, stretch);
    }
    set_mark_flows(job, scratch);
    return reach;
}

// What `modes_at` needs of neurons: one for all lanes, or one a lane.
struct LaneModes {
    Rates rates;
    Doubles k, mix, tau_syn = 1.0 / rates.b, back_k = 1.0 / k, near = (1.0 - mix) * rates.b / rates.a;
};

// Of the neuron that all are like.
template <class T>
SPIKELOOP_INLINE LaneModes common_modes(const Job<T>& job) {
    const Modes& modes = job.modes[0];
    return {{all_of(modes.a), all_of(modes.b), job.ratio}, all_of(modes.k), all_of(modes.mix)};
}

// Of neurons neuron(0) .. neuron(count - 1), which have each its own, and of some others in the lanes that are left.
template <class T, class Which>
SPIKELOOP_INLINE LaneModes own_modes(const Job<T>& job, size_t count, Which&& neuron) {
    Doubles a = all_of(1.0), b = all_of(2.0), k = all_of(1.0), mix{};
    for (size_t l = 0; l < count; ++l) {
        const Modes& modes = job.modes[neuron(l)];
        a[l] = modes.a, b[l] = modes.b, k[l] = modes.k, mix[l] = modes.mix;
    }
    return {{a, b}, k, mix};
}

// The modes after `dt` from an anchor, as arrivals need them, of eight arrivals or of eight neurons.
template <class T>
SPIKELOOP_INLINE void modes_at(const Doubles& dt, const LaneModes& n, size_t place, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Flows f = flows(dt, n.rates);
    const Doubles both = 1.0 / (f.em * f.es), p = f.em * both, v = f.es * both, q = n.mix * v - n.near * f.g * both;
    store_as(out.one.data() + place, p * n.tau_syn), store_as(out.two.data() + place, q * n.tau_syn);
    store_as(scratch.move_one.data() + place, -p), store_as(scratch.move_two.data() + place, v * n.back_k - q);
}

// The modes at the first `reach` arrivals, for all neurons or for those of each block of lanes with an active one.
template <class T>
void make_modes(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, size_t reach) {
    constexpr size_t N = kLanes<T>;
    out.reach = reach;
    const auto make_room = [&](size_t size) {
        for (auto* x : {&out.one, &out.two, &scratch.move_one, &scratch.move_two}) x->resize(size);
    };
    const double* since = job.leaps ? scratch.since.data() : scratch.time.data();
    if (job.one_tau) {
        const LaneModes all = common_modes(job);
        make_room((reach + kDoubles - 1) / kDoubles * kDoubles);
        for (size_t k = 0; k < reach; k += kDoubles) modes_at(load(since + k), all, k, out, scratch);
        return;
    }
    out.place.assign(job.blocks(), 0);
    make_room(scratch.blocks.size() * reach * N);
    for (size_t place = 0; place < scratch.blocks.size(); ++place) {
        const size_t first = scratch.blocks[place].block * N;
        out.place[scratch.blocks[place].block] = int32_t(place);
        for (size_t half = 0; half < N; half += kDoubles) {
            const size_t from = first + half, here = std::min<size_t>(kDoubles, std::max(size_t(job.size()), from) - from);
            const LaneModes own = own_modes(job, here, [=](size_t lane) { return from + lane; });
            for (size_t n = 0; n < reach; ++n) modes_at(all_of(since[n]), own, (place * reach + n) * N + half, out, scratch);
        }
    }
}

// Flow and integrals between arrivals, where time constants are wanted; those of one neuron at a time if each has its own.
template <class T>
void make_stretches(const Job<T>& job, Scratch<T>& scratch, size_t reach) {
    scratch.stretches.resize(reach);
    const Neuron& n = job.neuron[0];
    for (size_t k = 1; k < reach && job.one_tau; ++k) scratch.stretches[k] = interval(scratch.time[k] - scratch.time[k - 1], n.a, n.b);
}
