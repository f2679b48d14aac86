// One sample's way back through one stage, and the sum over samples, see dense_adjoint.cpp.
#include "dense_timeline.inl"
#include "dense_replay.inl"
#include "dense_spikes.inl"

// What neuron m's time constants get on the way from `end`, where its adjoint is `l`, back to `begin`, where its state is
// `v`, `i`, past the arrivals from `low` to `high`.
template <class T, class Gradient>
void time_constants_back(const Job<T>& job, Scratch<T>& scratch, int64_t m, Adjoint l, double begin, double v, double i, double end,
                         int32_t low, int32_t high, Gradient& grad) {
    const Neuron& n = job.neuron[m];
    const Interval first = interval((low < high ? scratch.time[low] : end) - begin, n.a, n.b);
    const Interval last = low < high ? interval(end - scratch.time[high - 1], n.a, n.b) : first;
    const auto piece = [&](int32_t k) -> const Interval& { return k == low ? first : k == high ? last : scratch.stretches[k]; };
    auto& way = scratch.way;
    way.assign(1, {v, i});
    for (int32_t k = low; k < high; ++k) {  // the piece that ends at arrival k
        if (!job.one_tau && k > low) scratch.stretches[k] = interval(scratch.time[k] - scratch.time[k - 1], n.a, n.b);
        const Flow& f = piece(k).flow;
        v = v * f.em + i * f.g, i = i * f.es + double(scratch.row[k][m]);
        way.push_back({v, i});
    }
    for (int32_t k = high; k >= low; --k) {
        const State& state = way[k - low];
        time_constants_back(l, piece(k).integrals, state.v, state.i, grad);
        flow_back(n, l, piece(k).flow);
    }
}

// Neuron m back over its marks, from the last to the start.
template <class T, class Gradient>
void sweep_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, int64_t m, Gradient& grad) {
    const Neuron& n = job.neuron[m];
    const Modes& modes = job.modes_of(m);
    const Backward& request = job.request();
    const Marks& marks = scratch.marks[m];
    const State start = start_of(job, out, m);
    const int lane = int(m % kLanes<T>);
    scratch.next_change[lane] = int32_t(scratch.changes.size());
    Adjoint l;
    bool held = start.free > 0;
    for (const Mark& mark : marks) held = mark.held_after(held);
    for (size_t k = marks.size(); k-- > 0;) {
        const Mark& mark = marks[k];
        mark_back(n, mark, l, held, request.time_cotangent, out.slope, grad);
        const Mark* before = k > 0 ? &marks[k - 1] : nullptr;
        Pair pair = to_anchor(modes, l, modes.step(scratch.flow(mark.flow)));
        int32_t anchor = scratch.mark_anchor[mark.flow];
        const auto go_back = [&](int32_t to) {
            if (anchor > to) pair.back(modes.over_span.times(anchor - to));
            anchor = to;
        };
        const int32_t low = before ? before->stretch : 0;
        for (int32_t last = mark.stretch - 1; last >= low; last = scratch.first_of(last) - 1) {
            go_back(scratch.anchor_of(last));
            scratch.changes.push_back({last, lane, T(pair.p), T(pair.q)});
            scratch.changing[last] |= uint32_t(1) << lane, scratch.any_changing[last / 64] |= uint64_t(1) << last % 64;
        }
        if (request.want_tau)
            time_constants_back(job, scratch, m, l, before ? before->time : 0.0, before ? before->v_after : start.v,
                                before ? before->i : start.i, mark.time, low, mark.stretch, grad);
        if (!before && !request.want_neuron) break;
        go_back(before ? scratch.mark_anchor[before->flow] : 0);
        const double lv = l.v;
        l = before ? from_anchor(modes, pair, modes.near * scratch.g[before->flow], scratch.back_m[before->flow], scratch.back_s[before->flow])
                   : from_anchor(modes, pair, 0, 1, 1);
        grad.leak -= (lv - l.v) / n.a;
    }
    start_back(n, l, request.start.membrane != nullptr, grad);
}

// The changes of a block's lanes, merged: the last first.
template <class T>
void merge_changes(SampleAdjoint<T>& out, Scratch<T>& scratch) {
    size_t to = out.changes.size();
    out.changes.resize(to + scratch.changes.size());
    for (size_t word = scratch.any_changing.size(); word-- > 0;) {
        for (uint64_t& bits = scratch.any_changing[word]; bits;) {
            const int place = 63 - __builtin_clzll(bits);
            uint32_t& lanes = scratch.changing[word * 64 + place];
            for (; lanes; lanes &= lanes - 1) out.changes[to++] = scratch.changes[scratch.next_change[__builtin_ctz(lanes)]++];
            bits ^= uint64_t(1) << place;
        }
    }
    scratch.changes.clear();
}

// Calls visit(last, first, p, q) for the arrivals between the places where any lane's modes change, backwards.
template <class T, class Visit>
SPIKELOOP_INLINE void for_each_run(const Change<T>* change, const Change<T>* end, Visit&& visit) {
    Vector<T> p{}, q{};
    while (change < end) {
        const int32_t last = change->arrival;
        for (; change < end && change->arrival == last; ++change)
            p = put(p, change->lane, change->p), q = put(q, change->lane, change->q);
        visit(last, change < end ? change->arrival + 1 : 0, p, q);
    }
}

// The first `Wide` of the blocks in `x`.
template <class T, bool OneTau, bool Whole, int Wide>
void replay_blocks(const Job<T>& job, Scratch<T>& scratch, size_t reach, const Lanes<T>* x) {
    if (job.wants_membrane())
        replay<T, OneTau, Whole, true, Wide>(scratch, reach, x);
    else
        replay<T, OneTau, Whole, false, Wide>(scratch, reach, x);
}

// Some active blocks, side by side: the currents at their marks, unless these are known, and from there back.
template <class T, bool OneTau, bool Whole, int Wide>
void blocks_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, size_t reach, const ActiveBlock* blocks) {
    constexpr int N = kLanes<T>;
    Lanes<T> x[Wide];
    for (int j = 0; j < Wide; ++j) open_lanes(job, out, scratch, blocks[j], reach, x[j]);
    if (!job.knows_currents()) replay_blocks<T, OneTau, Whole, Wide>(job, scratch, reach, x);
    Unwanted unwanted;
    for (int j = 0; j < Wide; ++j) {
        const size_t begin = out.changes.size();
        for (int32_t a = blocks[j].begin; a < blocks[j].end; ++a) {
            const size_t lane = j * N + out.active[a] % N;
            if (!job.knows_currents())
                replay_marks(job, out, scratch, out.active[a], scratch.r.data() + lane, scratch.s.data() + lane, Wide * N);
            if (job.request().want_neuron)
                sweep_back(job, out, scratch, out.active[a], out.neuron[a]);
            else
                sweep_back(job, out, scratch, out.active[a], unwanted);
        }
        merge_changes(out, scratch);
        out.first_change[blocks[j].block + 1] = int32_t(out.changes.size() - begin);
    }
}

template <class T, bool OneTau>
void blocks_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, size_t reach, Watch& watch) {
    const auto& blocks = scratch.blocks;
    const size_t whole = blocks.size() - ((blocks.back().block + 1) * kLanes<T> > job.size());
    size_t k = 0;
    for (; OneTau && k + kWide <= whole; k += kWide) {
        watch.glance();
        blocks_back<T, OneTau, true, kWide>(job, out, scratch, reach, &blocks[k]);
    }
    for (; k < whole; ++k) {
        watch.glance();
        blocks_back<T, OneTau, true, 1>(job, out, scratch, reach, &blocks[k]);
    }
    if (k < blocks.size()) blocks_back<T, OneTau, false, 1>(job, out, scratch, reach, &blocks[k]);
}

// Where dL/d arrival time is added up: right where it is wanted, if that is one place, with a number for each arrival.
template <class T>
void begin_moves(const Job<T>& job, Scratch<T>& scratch) {
    double *time = job.stage->time[0], *source_time = job.stage->source_time[0];
    if (job.stage->sources.size() == 1 && scratch.gathered.empty() && !(time && source_time)) {
        scratch.moved = (time ? time : source_time) + scratch.first_event;
        return;
    }
    scratch.arrival.assign(scratch.arrivals, 0.0);
    scratch.moved = scratch.arrival.data();
}

// dL/d arrival time: the sum of w (lambda_V - lambda_I), for the neurons of a block.
template <class T, bool OneTau, bool Whole>
void move_arrivals(const SampleAdjoint<T>& out, Scratch<T>& scratch, int64_t block, const Lanes<T>& x) {
    const Change<T>* changes = out.changes.data();
    const T* const* row = scratch.row.data();
    double* const moved = scratch.moved;
    const bool few = !Whole && x.count <= 4;
    for_each_run(changes + out.first_change[block], changes + out.first_change[block + 1],
                 [&](int32_t last, int32_t first, const Vector<T>& p, const Vector<T>& q) {
        for (int32_t k = last; k >= first; --k) {
            const Vector<T> w = load_block<T, Whole>(row[k] + x.first, x.count);
            const Vector<T> each = w * (p * mode_at<T, OneTau>(x.move_one, k) + q * mode_at<T, OneTau>(x.move_two, k));
            moved[k] += few ? total_of_four<T>(each) : total<T>(each);
        }
    });
}

template <class T, bool OneTau>
void move_arrivals(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, Watch& watch) {
    Lanes<T> x;
    for (const ActiveBlock& block : scratch.blocks) {
        watch.glance();
        open_lanes(job, out, scratch, block, out.reach, x);
        if (x.count == kLanes<T>)
            move_arrivals<T, OneTau, true>(out, scratch, block.block, x);
        else
            move_arrivals<T, OneTau, false>(out, scratch, block.block, x);
    }
    if (scratch.moved != scratch.arrival.data()) return;
    const auto add = [&](int32_t source, int64_t event, double moved) {
        for (double* time : {job.stage->time[source], job.stage->source_time[source]})
            if (time) time[event] += moved;
    };
    for (size_t k = 0; k < scratch.arrivals && scratch.gathered.empty(); ++k) add(0, scratch.first_event + int64_t(k), scratch.moved[k]);
    for (size_t k = 0; k < scratch.gathered.size(); ++k) add(scratch.gathered[k].source, scratch.gathered[k].event, scratch.moved[k]);
}

// Marks of all kinds, neuron by neuron.
template <class T>
void marks_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, Watch& watch) {
    make_marks(job, out, scratch);
    const size_t reach = place_marks(job, out, scratch);
    make_modes(job, out, scratch, reach);
    if (job.request().want_tau) make_stretches(job, scratch, reach);
    scratch.changes.clear();  // an earlier call may have been ended
    scratch.changing.assign(reach, 0), scratch.any_changing.assign(reach / 64 + 1, 0);
    if (job.one_tau)
        blocks_back<T, true>(job, out, scratch, reach, watch);
    else
        blocks_back<T, false>(job, out, scratch, reach, watch);
    std::partial_sum(out.first_change.begin(), out.first_change.end(), out.first_change.begin());
}

template <class T>
void sample_back(const Job<T>& job, SampleAdjoint<T>& out, Scratch<T>& scratch, Watch& watch) {
    const bool only_spikes = job.only_spikes();
    const Trains& spikes = job.request().spikes;
    for (int64_t e = spikes.start[out.sample] + 1; e < spikes.start[out.sample + 1]; ++e)
        if (!(spikes.time[e - 1] <= spikes.time[e])) throw std::invalid_argument("the spikes of a sample are not in order of time");
    out.changes.clear(), out.charge.clear(), out.first_change.assign(job.blocks() + 1, 0), out.neuron.clear();
    if (!only_spikes) find_active(job, out, scratch);
    if (only_spikes ? job.request().spikes.size(out.sample) == 0 : out.active.empty()) return;
    find_arrivals(job, out, scratch);
    if (job.want_arrival_time) begin_moves(job, scratch);
    if (only_spikes)
        spikes_back(job, out, scratch);
    else
        marks_back(job, out, scratch, watch);
    if (job.want_arrival_time && job.one_tau) move_arrivals<T, true>(job, out, scratch, watch);
    if (job.want_arrival_time && !job.one_tau) move_arrivals<T, false>(job, out, scratch, watch);
}

// What `count` samples bring to the weights of a block of neurons, in order.
template <class T, bool OneTau, bool Whole>
void add_weights(const Frame<T>& frame, int64_t count, int64_t block) {
    constexpr int N = kLanes<T>;
    const int lanes = int(std::min<int64_t>(N, frame.size() - block * N));
    for (int64_t sample = 0; sample < count; ++sample) {
        const SampleAdjoint<T>& out = frame.samples[sample];
        T* const* row = out.row.data();
        const auto add = [&](int64_t k, const Vector<T>& charge) {
            T* to = row[k] + block * N;
            store_block<T, Whole>(to, load_block<T, Whole>(to, lanes) - charge, lanes);
        };
        if (!out.charge.empty()) {
            const T* charge = out.charge.data() + size_t(block) * out.reach * N;
            for (int64_t k = int64_t(out.reach) - 1; k >= 0; --k)
                if (row[k]) add(k, load(charge + k * N));
            continue;
        }
        const Change<T>* changes = out.changes.data() + out.first_change[block];
        const Change<T>* end = out.changes.data() + out.first_change[block + 1];
        if (changes == end) continue;
        const size_t place = OneTau ? 0 : out.place[block] * out.reach * N;
        const T *one = out.one.data() + place, *two = out.two.data() + place;
        for_each_run(changes, end, [&](int32_t last, int32_t first, const Vector<T>& p, const Vector<T>& q) {
            for (int32_t k = last; k >= first; --k)
                if (row[k]) add(k, p * mode_at<T, OneTau>(one, k) + q * mode_at<T, OneTau>(two, k));
        });
    }
}

template <class T>
void add_weights(const Frame<T>& frame, int64_t count, int64_t block) {
    const bool whole = (block + 1) * kLanes<T> <= frame.size();
    if (frame.one_tau)
        whole ? add_weights<T, true, true>(frame, count, block) : add_weights<T, true, false>(frame, count, block);
    else
        whole ? add_weights<T, false, true>(frame, count, block) : add_weights<T, false, false>(frame, count, block);
}
