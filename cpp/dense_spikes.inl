// One sample's way back where nothing but its spikes are marks, all of known currents: spike by spike from the last to the
// first, whichever neurons they are of, so that no lists of each neuron's own are made. See dense_adjoint.cpp.

// How many arrivals come before each spike, and the flow up to it; room for the changes of each block. Returns how many come
// before any.
template <class T>
size_t place_spikes(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, const Trains& spikes, int64_t first, size_t count) {
    const double begin = job.request().begin;
    const int32_t arrivals = int32_t(scratch.time.size());
    make_flow_room(job, scratch, count), scratch.stretch.resize(count);
    int32_t stretch = 0;
    for (size_t k = 0; k < count; ++k) {
        const int32_t m = spikes.unit[first + k];
        const double time = spikes.time[first + k] - begin;
        while (stretch < arrivals && scratch.time[stretch] < time) ++stretch;
        scratch.stretch[k] = stretch, scratch.wait[k] = time;
        if (stretch > 0) ++out.first_change[m / kLanes<T> + 1];
        if (!job.one_tau) scratch.a[k] = job.neuron[m].a, scratch.b[k] = job.neuron[m].b;
    }
    std::partial_sum(out.first_change.begin(), out.first_change.end(), out.first_change.begin());
    set_mark_flows(job, scratch);
    return size_t(stretch);
}

template <class T, bool OneTau>
void spikes_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch) {
    const Backward& request = job.request();
    const Trains& spikes = request.spikes;
    const int64_t first = spikes.start[out.sample];
    const size_t count = size_t(spikes.size(out.sample));
    const size_t reach = place_spikes(job, out, scratch, spikes, first, count);
    scratch.blocks.clear();
    for (int32_t block = 0; block < job.blocks(); ++block)
        if (out.first_change[block] < out.first_change[block + 1]) scratch.blocks.push_back({block, 0, 0});
    make_modes(job, out, scratch, reach);
    out.changes.resize(out.first_change.back());
    scratch.next.assign(out.first_change.begin(), out.first_change.end());
    scratch.pair.assign(job.size(), {});
    const Modes common = job.modes[0];
    const Neuron* const neurons = job.neuron.data();
    Pair* const pairs = scratch.pair.data();
    Change<T>* const changes = out.changes.data();
    int32_t* const next = scratch.next.data();
    SlopeFloor slope = out.slope;
    Unwanted unwanted;
    for (size_t k = count; k-- > 0;) {
        const int64_t e = first + int64_t(k);
        const uint32_t m = uint32_t(spikes.unit[e]);
        const Neuron& n = neurons[m];
        const Modes& modes = OneTau ? common : job.modes[m];
        const Step step = modes.step(scratch.flow(int32_t(k)));
        const double i = request.current[e];
        Adjoint l = from_anchor(modes, pairs[m], step.x, scratch.back_m[k], scratch.back_s[k]);
        const double moved = request.time_cotangent[e] += release_back(n, l, i, unwanted);
        spike_back(n, l, moved, i, slope, unwanted);
        const Pair pair = pairs[m] = to_anchor(modes, l, step);
        if (const int32_t stretch = scratch.stretch[k]; stretch > 0)
            changes[next[m / kLanes<T>]++] = {stretch - 1, int32_t(m % kLanes<T>), T(pair.p), T(pair.q)};
    }
    out.slope = slope;
}
