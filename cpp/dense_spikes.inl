// One sample's way back where nothing but its spikes are marks, all of known currents: spike by spike from the last to the
// first, whichever neurons they are of, so that no lists of each neuron's own are made. See dense_adjoint.cpp.

// What is needed of the flow up to each spike. Of a neuron's modes P and Q, relative to the start, Q times `back` is lambda_V after
// the spike. What it is before it, times `keep`, is Q then, and P has grown by `turn` times what lambda_V has lost.
template <class T, bool OneTau>
void set_spikes(const Job<T>& job, Scratch<T>& scratch, const double* time, const int32_t* unit, size_t count) {
    const double begin = job.request().begin;
    const LaneModes common = common_modes(job);
    for (auto* x : {&scratch.back, &scratch.keep, &scratch.turn}) x->resize((count + kDoubles - 1) / kDoubles * kDoubles);
    const auto set = [&](size_t k, size_t some, const Doubles& at) {
        const auto put = [&](const LaneModes& n) {
            const Flows f = flows(at - begin, n.rates);
            const Doubles keep = n.k * f.em;
            store(scratch.keep.data() + k, keep), store(scratch.back.data() + k, 1.0 / keep);
            store(scratch.turn.data() + k, n.k * (n.mix * f.es - n.near * f.g));
        };
        if constexpr (OneTau)
            put(common);
        else
            put(own_modes(job, some, [=](size_t lane) { return unit[k + lane]; }));
    };
    size_t k = 0;
    for (; k + kDoubles <= count; k += kDoubles) set(k, kDoubles, load(time + k));
    if (k < count) set(k, count - k, load_some(time + k, int(count - k)));
}

// Room for the changes of each block, by the spikes from `from` on, which have arrivals before them.
template <class T>
void make_change_room(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, const int32_t* unit, size_t from, size_t count) {
    for (size_t k = from; k < count; ++k) ++out.first_change[unit[k] / kLanes<T> + 1];
    std::partial_sum(out.first_change.begin(), out.first_change.end(), out.first_change.begin());
    out.changes.resize(out.first_change.back());
    scratch.next.assign(out.first_change.begin(), out.first_change.end());
    scratch.blocks.clear();
    for (int32_t block = 0; block < job.blocks(); ++block)
        if (out.first_change[block] < out.first_change[block + 1]) scratch.blocks.push_back({block, 0, 0});
}

// What arrival n brings to all weights.
template <class T>
SPIKELOOP_INLINE void put_charges(SampleAdjoint<T>& out, const Scratch<T>& scratch, size_t n) {
    constexpr size_t N = kLanes<T>;
    const double one = out.one[n], two = out.two[n];
    const double *p = scratch.p.data(), *q = scratch.q.data(), *end = p + scratch.p.size();
    const size_t apart = out.reach * N;
    for (T* to = out.charge.data() + n * N; p < end; to += apart)
        for (size_t half = 0; half < N; half += kDoubles, p += kDoubles, q += kDoubles) store_as(to + half, load(p) * one + load(q) * two);
}

template <class T, bool Charges>
void spikes_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, int64_t first, size_t count) {
    const Backward& request = job.request();
    const double begin = request.begin;
    const double *time = request.spikes.time + first, *arrival = scratch.time.data();
    const int32_t* unit = request.spikes.unit + first;
    const float* current = request.current + first;
    double* cotangent = request.time_cotangent + first;
    const double *back = scratch.back.data(), *keep = scratch.keep.data(), *turn = scratch.turn.data();
    const Neuron* neurons = job.neuron.data();
    double *p = scratch.p.data(), *q = scratch.q.data();
    SlopeFloor slope = out.slope;
    Unwanted unwanted;
    size_t k = count;
    for (size_t n = out.reach;; --n) {
        const double since = n > 0 ? arrival[n - 1] : -kInfinity;
        for (; k > 0 && time[k - 1] - begin > since; --k) {
            const size_t e = k - 1, m = uint32_t(unit[e]);
            const double i = current[e];
            Adjoint l{q[m] * back[e]};
            const double after = l.v;
            const double moved = cotangent[e] += release_back(neurons[m], l, i, unwanted);
            spike_back(neurons[m], l, moved, i, slope, unwanted);
            p[m] += turn[e] * (after - l.v), q[m] = keep[e] * l.v;
            if (!Charges && n > 0)
                out.changes[scratch.next[m / kLanes<T>]++] = {int32_t(n - 1), int32_t(m % kLanes<T>), T(p[m]), T(q[m])};
        }
        if (n == 0) break;
        if (Charges) put_charges(out, scratch, n - 1);
    }
    out.slope = slope;
}

template <class T>
void spikes_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Trains& spikes = job.request().spikes;
    const int64_t first = spikes.start[out.sample];
    const size_t count = size_t(spikes.size(out.sample));
    const double *time = spikes.time + first, *arrival = scratch.time.data();
    const int32_t* unit = spikes.unit + first;
    job.one_tau ? set_spikes<T, true>(job, scratch, time, unit, count) : set_spikes<T, false>(job, scratch, time, unit, count);
    const double begin = job.request().begin;
    const size_t reach = size_t(std::lower_bound(arrival, arrival + scratch.arrivals, time[count - 1] - begin) - arrival);
    const size_t lanes = size_t(job.blocks()) * kLanes<T>;
    const bool charges = job.one_tau && !job.want_arrival_time && reach * lanes <= count * kLanes<T>;
    if (!charges) {
        const auto early = [&](double at) { return !(reach > 0 && at - begin > arrival[0]); };
        make_change_room(job, out, scratch, unit, size_t(std::partition_point(time, time + count, early) - time), count);
    }
    make_modes(job, out, scratch, reach);
    if (charges) out.charge.resize(reach * lanes);
    for (auto* x : {&scratch.p, &scratch.q}) {
        x->resize(lanes);
        for (size_t m = 0; m < lanes; m += kDoubles) store(x->data() + m, Doubles{});
    }
    charges ? spikes_back<T, true>(job, out, scratch, first, count) : spikes_back<T, false>(job, out, scratch, first, count);
}
