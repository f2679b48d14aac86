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

template <class T>
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
    Unwanted unwanted;
    for (size_t k = count; k-- > 0;) {
        const int64_t e = first + int64_t(k);
        const int32_t m = spikes.unit[e];
        const Neuron& n = job.neuron[m];
        const Modes& modes = job.modes_of(m);
        const Step step = modes.step(scratch.flow(int32_t(k)));
        Pair& pair = scratch.pair[m];
        Adjoint l = from_anchor(modes, pair, step.x, scratch.back_m[k], scratch.back_s[k]);
        request.time_cotangent[e] += release_back(n, l, request.current[e], unwanted);
        spike_back(n, l, request.time_cotangent[e], request.current[e], out.slope, unwanted);
        pair = to_anchor(modes, l, step);
        if (scratch.stretch[k] > 0)
            out.changes[scratch.next[m / kLanes<T>]++] = {scratch.stretch[k] - 1, int32_t(m % kLanes<T>), T(pair.p), T(pair.q)};
    }
}
