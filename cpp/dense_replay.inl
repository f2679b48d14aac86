// One sample forwards through one stage, as its adjoint needs it: currents, and V, at marks. See dense_adjoint.cpp.

// A mode at arrival k: one number, or one for each lane.
template <class T, bool OneTau>
SPIKELOOP_INLINE Vector<T> mode_at(const T* mode, size_t k) {
    if constexpr (OneTau)
        return mode[k] - Vector<T>{};
    else
        return load(mode + k * kLanes<T>);
}

// Where neuron m starts.
template <class T>
State start_of(const Job<T>& job, const SampleAdjoint<T>& out, int64_t m) {
    return initial_state(job.neuron[m], job.request().start, job.stage->neurons.leak[m], out.sample * job.size() + m);
}

// A block of lanes and how its neurons' modes are found.
template <class T>
struct Lanes {
    static constexpr int N = kLanes<T>;
    int64_t first = 0;  // neuron
    int count = N;
    const T *one, *two, *move_one, *move_two;
    alignas(64) T r[N] = {}, s[N] = {};              // at the start
    alignas(64) T span_m[N], span_s[N], span_x[N];  // Modes::over_span
};

template <class T>
void open_lanes(const Job<T>& job, const SampleAdjoint<T>& out, const Scratch<T>& scratch, const ActiveBlock& block, size_t reach,
                Lanes<T>& x) {
    constexpr int N = kLanes<T>;
    x.first = int64_t(block.block) * N, x.count = int(std::min<int64_t>(N, job.size() - x.first));
    const size_t place = job.one_tau ? 0 : out.place[block.block] * reach * N;
    x.one = out.one.data() + place, x.two = out.two.data() + place;
    x.move_one = scratch.move_one.data() + place, x.move_two = scratch.move_two.data() + place;
    for (int l = 0; l < N && job.leaps; ++l) {
        const Step& step = job.modes_of(x.first + std::min(l, x.count - 1)).over_span;
        x.span_m[l] = T(step.m), x.span_s[l] = T(step.s), x.span_x[l] = T(step.x);
    }
    std::fill_n(x.r, N, T(0)), std::fill_n(x.s, N, T(0));
    for (int l = 0; l < x.count && job.starts; ++l) {
        const int64_t m = x.first + l;
        const Modes& modes = job.modes_of(m);
        const State state = start_of(job, out, m);
        x.r[l] = T(state.i / modes.b), x.s[l] = T((state.v / modes.v_of + modes.mix * state.i) / modes.b);
    }
}

// What arrivals, and the start, make of the state of `Wide` blocks: R / b after each arrival, and S / b where V is needed, all
// relative to the arrival's anchor.
template <class T, bool OneTau, bool Whole, bool Membrane, int Wide>
void replay(Scratch<T>& scratch, size_t reach, const Lanes<T>* x) {
    constexpr int N = kLanes<T>;
    scratch.r.resize((reach + 1) * Wide * N), scratch.s.resize(Membrane ? scratch.r.size() : 0);
    T *to_r = scratch.r.data(), *to_s = scratch.s.data();
    Vector<T> r[Wide], s[Wide];
    for (int j = 0; j < Wide; ++j) r[j] = load(x[j].r), s[j] = load(x[j].s);
    int32_t anchor = 0;
    for (size_t n = 0;; ++n, to_r += Wide * N, to_s += Membrane ? Wide * N : 0) {
        SPIKELOOP_UNROLL
        for (int j = 0; j < Wide; ++j) {
            store(to_r + j * N, r[j]);
            if (Membrane) store(to_s + j * N, s[j]);
        }
        if (n == reach) return;
        for (; anchor < scratch.anchor_of(n); ++anchor)
            for (int j = 0; j < Wide; ++j) {
                if (Membrane) s[j] = s[j] * load(x[j].span_m) + r[j] * load(x[j].span_x);
                r[j] *= load(x[j].span_s);
            }
        SPIKELOOP_UNROLL
        for (int j = 0; j < Wide; ++j) {
            const Vector<T> w = load_block<T, Whole>(scratch.row[n] + x[j].first, x[j].count);
            r[j] += w * mode_at<T, OneTau>(x[j].one, n);
            if (Membrane) s[j] += w * mode_at<T, OneTau>(x[j].two, n);
        }
    }
}

// Current, and V, of neuron m at its marks; `r` and `s` are its lane's, `stride` numbers apart.
template <class T>
void replay_marks(const Job<T>& job, const SampleAdjoint<T>& out, Scratch<T>& scratch, int64_t m, const T* r, const T* s, size_t stride) {
    const Neuron& n = job.neuron[m];
    const Modes& modes = job.modes_of(m);
    const bool membrane = job.wants_membrane();
    const State start = start_of(job, out, m);
    double v = start.v, beyond = 0;  // beyond what arrivals alone would have made of V, relative to the anchor
    bool held = start.free > 0;
    int32_t anchor = 0;
    for (Mark& mark : scratch.marks[m]) {
        const int32_t here = scratch.mark_anchor[mark.flow], from = mark.stretch > 0 ? scratch.anchor_of(mark.stretch - 1) : 0;
        const Step own = modes.step(scratch.flow(mark.flow));
        const Step step = here == from ? own : modes.over_span.times(here - from).then(own);
        const double current = n.b * double(r[mark.stretch * stride]);
        mark.i = current * step.s;
        if (!membrane) continue;
        const double linear = modes.v(mark.i, n.b * double(s[mark.stretch * stride]) * step.m + current * step.x);
        beyond *= modes.over_span.times(here - anchor).m, anchor = here;
        if (!held) v = linear + beyond * own.m;
        if (mark.kind == MarkKind::spike) v = n.reset;
        if (mark.kind != MarkKind::sample) beyond = (v - linear) / own.m;
        mark.v_after = v, held = mark.held_after(held);
        if (job.want_arrival_time && mark.peak && size_t(mark.stretch) < scratch.arrivals && mark.time == scratch.time[mark.stretch])
            scratch.moved[mark.stretch] += mark.cotangent * n.a * (mark.i - v);
    }
}
