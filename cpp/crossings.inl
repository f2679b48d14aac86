// The highest membrane of an interval, from its ends. Where it does not turn it is at one of them; while it rises
// V'' <= -a b i, and i is no less than at the end, so that it rises by no more than V'^2 / (2 a b i), V' = a (i - v).
// After a hundred time constants single precision has no numbers left for the end, which then says nothing.
template <class V>
SPIKELOOP_INLINE V highest(const V& v, const V& i, const V& next_v, const V& next_i, const V& a, const V& b) {
    const V unknown = V{} + std::numeric_limits<float>::infinity();
    const V least = V{} + 1e-30f;
    const V turning = next_i > least ? v + a * (i - v) * (i - v) / (2 * b * next_i) : unknown;
    return (i > v) & ((next_i < next_v) | (next_i < least)) ? turning : larger(v, next_v);
}

// `advance` of lif.hpp for a pack of neurons.

struct Group {  // eight neurons
    Doubles time, v, i;
    Rates rate;
    Doubles peak, threshold;
    SPIKELOOP_INLINE Flows after(const Doubles& dt) const { return flows(dt, rate); }
};

// With a whole ratio above 1 of its time constants V is a polynomial of e = exp(-a t): c e - d e^ratio.
struct Polynomial {
    Doubles c, d;
    int ratio;
    SPIKELOOP_INLINE explicit Polynomial(const Group& n) : d(n.i * (1.0 / (n.rate.ratio - 1))), ratio(n.rate.ratio) { c = n.v + d; }
    SPIKELOOP_INLINE Doubles lowered(const Doubles& e) const { return ratio == 2 ? all_of(1) : ratio == 3 ? e : e * e; }  // e^(ratio - 2)
};

// Where V = threshold for the first time, nearly: from the parabola at e = 1 by two steps of Halley's iteration.
SPIKELOOP_INLINE Doubles nearly(const Group& n, const Polynomial& p) {
    const Doubles slope = n.i - n.v, rest = n.threshold - n.v, bend = double(p.ratio) * n.i;
    Doubles e = 1.0 - 2 * rest / (slope + root(larger(slope * slope - 2 * bend * rest, all_of(0))));
    for (int step = 0; step < 2; ++step) {
        const Doubles low = p.lowered(e), high = p.d * low * e, gap = e * (p.c - high) - n.threshold, rise = double(p.ratio) * high - p.c;
        e = smaller(larger(e + 2 * gap * rise / (2 * rise * rise + gap * bend * low), all_of(1e-300)), all_of(1));
    }
    return -about_log(e) / n.rate.a;
}

// Whether V turns back, above the threshold by more than rounding; and whether it turns before `em`, the e of the end.
struct Turn {
    Integers above, before;
};
SPIKELOOP_INLINE Turn turn(const Group& n, const Polynomial& p, const Doubles& em) {
    const double r = p.ratio;
    const Doubles top = n.threshold * r / ((r - 1) * p.c), decayed = n.v * top;  // e there, if it just reaches the threshold
    const Doubles least = top * (1.0 + kRounding * (magnitude(decayed) + magnitude(n.threshold - decayed)) / n.threshold);
    const Doubles turning = r * p.d;  // e^(ratio - 1) = c / turning where it turns
    const Integers turns = (p.c > 0.0) & (p.d > 0.0);
    return {turns & (p.c > turning * p.lowered(least) * least), turns & (p.c > turning * p.lowered(em) * em)};
}

// `stationary` of lif.hpp for i > max(v, 0).
SPIKELOOP_INLINE Doubles turning_point(const Group& n) {
    const Doubles u = (n.i - n.v) / (n.i * n.rate.b), d = n.rate.b - n.rate.a, x = d * u;
    const Doubles t = magnitude(x) < 1e-14 ? u : -log_one_plus(-x) / d;
    return (x < 1.0) & (t > 0.0) ? t : all_of(kInfinity);
}

// Which of the rising neurons reach their threshold before `dt`, or by no more than rounding later, given what is kept of v
// by then, what has come, and i.
SPIKELOOP_INLINE Integers crossing(const Group& n, const Doubles& dt, const Integers& rising, const Doubles& kept, const Doubles& come, const Flows& end) {
    const Doubles end_i = n.i * end.es;
    const Doubles end_v = kept + come, unsure = kUnsure * (magnitude(kept) + come);
    const Integers found = rising & (end_v >= n.threshold + unsure), near = end_v >= n.threshold - unsure;
    const Doubles bound = larger(n.v, all_of(0)) + n.i * smaller(n.rate.a * dt, n.peak * (1 + kMargin));
    const Integers turns = rising & ~found & ((end_i < end_v) | (end_i < kNothing) | near) & (bound >= n.threshold);
    if (!any(turns)) return found;
    if (n.rate.ratio > 1) {
        const Turn back = turn(n, Polynomial(n), end.em);
        return found | (turns & back.above & (back.before | near));
    }
    const Doubles top = turning_point(n);
    const Flows f = n.after(top < kInfinity ? top : dt);
    const Doubles decayed = n.v * f.em, brought = n.i * f.g;  // a peak at the threshold, but for rounding, is none
    const Integers above = decayed + brought > n.threshold + kRounding * (magnitude(decayed) + brought);
    return found | (turns & above & (top < kInfinity) & ((top < dt) | near));
}

// Roots of v(t) = threshold from 0 on, before `hi`, where v rises and is concave.
struct Search {
    Doubles lo, hi, t;
    Integers open;
};

// Started close to it, or from the parabola through v, v' and v'' at 0.
SPIKELOOP_INLINE Search search(const Group& n, const Integers& wanted) {
    if (n.rate.ratio > 1) return {all_of(0), all_of(kInfinity), nearly(n, Polynomial(n)), wanted};
    const Doubles a = n.rate.a, slope = a * (n.i - n.v), bend = -a * (n.rate.b * n.i + slope), rest = n.threshold - n.v;
    return {all_of(0), all_of(kInfinity), 2 * rest / (slope + root(larger(slope * slope + 2 * bend * rest, all_of(0)))), wanted};
}

// A step of Householder's iteration of third order, kept inside the bracket; where v falls, or is above, the root lies before.
SPIKELOOP_INLINE void narrow(const Group& n, Search& s) {
    const Doubles a = n.rate.a, b = n.rate.b;
    const Flows f = n.after(s.t);
    const Doubles v = n.v * f.em + n.i * f.g, i = n.i * f.es, gap = v - n.threshold;
    const Doubles rise = a * (i - v);
    const Integers ahead = (gap < 0) & (rise > 0);
    s.lo = ahead ? s.t : s.lo, s.hi = ahead ? s.hi : s.t;
    const Doubles curve = -a * (b * i + rise), third = a * (b * b * i - curve), fourth = -a * (b * b * b * i + third);
    const Doubles square = rise * rise, both = gap * curve;
    const Doubles step = -gap * (6 * square - 3 * both) / (rise * (6 * square - 6 * both) + gap * gap * third), next = s.t + step;
    const Integers inside = (next >= s.lo) & (next <= s.hi) & (rise > 0);
    // it leaves an error of at most (|v2/2v1|^3 + |v2 v3/6v1^2| + |v4/24v1|) step^4, vk the k-th derivative: done once that is
    // below the last digit
    const Doubles bend = magnitude(curve), size = step * step;
    const Doubles error = (bend * (0.125 * bend * bend + (1.0 / 6) * magnitude(third) * rise) + (1.0 / 24) * magnitude(fourth) * square) * size * size;
    const Integers done = (inside & (error <= 1e-17 * (n.time + s.t) * square * rise)) | (s.lo >= s.hi * (1 - 1e-16));
    const Doubles other = s.hi < kInfinity ? 0.5 * (s.lo + s.hi) : 2.0 * s.t;
    s.t = s.open ? (inside ? next : other) : s.t;
    s.open &= ~done;
}

// One group without arrivals until `end`: where it would be then, and who fires before.
struct Course {
    Doubles end_v, end_i;
    Integers now, later;
    Search search;
};

SPIKELOOP_INLINE Course course(Group& n, const Doubles& free, const Doubles& end) {
    const Doubles until = free > n.time ? smaller(free, end) : n.time;
    if (any(until > n.time)) n.i *= exponential(n.rate.b * (n.time - until)), n.time = until;
    const Doubles dt = end - n.time;
    const Flows f = n.after(dt);
    Course c;
    const Doubles kept = n.v * f.em, come = n.i * f.g;
    c.end_v = kept + come, c.end_i = n.i * f.es;
    const Integers rising = (n.i > n.v) & (n.i > 0) & (dt > 0);
    c.now = rising & (n.v >= n.threshold);
    c.later = crossing(n, dt, rising & ~c.now, kept, come, f);
    c.search = search(n, c.later);
    return c;
}

// To the next spike of those that fire, which it returns, and the others to the end. Those that cannot reach the threshold
// again, for there is no refractory period and too little current, go on to the end: `goes_on`.
SPIKELOOP_INLINE Integers go(Group& n, const Course& c, const Doubles& end, const Doubles& reset, const Doubles& refractory, Integers& goes_on,
                             Doubles& spike, Doubles& current) {
    const Integers later = c.later & (n.time + c.search.t <= end), fires = c.now | later;
    const Doubles wait = later ? c.search.t : all_of(0);
    n.time = fires ? n.time + wait : end;
    n.v = c.end_v;
    n.i = fires ? n.i * exponential(-n.rate.b * wait) : c.end_i;
    spike = n.time, current = n.i;
    const Doubles left = end - n.time, bound = larger(reset, all_of(0)) + n.i * smaller(n.rate.a * left, n.peak * (1 + kMargin));
    goes_on = fires & (refractory == 0) & (left >= 0) & (bound < n.threshold);
    if (any(goes_on)) {
        const Flows f = n.after(left);
        n.v = goes_on ? reset * f.em + n.i * f.g : n.v;
        n.i = goes_on ? n.i * f.es : n.i;
    }
    return fires;
}

// The groups from place `first` on, side by side, for a search waits for its own results. Those that spike are put back, from
// place `kept` on; returns where these end.
template <int G>
SPIKELOOP_INLINE int go_on(Pack& p, int first, int kept, std::vector<Spike>& out) {
    Group n[G];
    Course c[G];
    Integers open{};
    SPIKELOOP_UNROLL
    for (int g = 0; g < G; ++g) {
        const int at = first + g * kDoubles;
        n[g] = {load(p.time + at), load(p.v + at), load(p.i + at), {load(p.a + at), load(p.b + at), p.ratio}, load(p.peak + at), load(p.threshold + at)};
        c[g] = course(n[g], load(p.free + at), load(p.until + at));
        open |= c[g].search.open;
    }
    for (int step = 0; step < 100 && any(open); ++step) {
        open = Integers{};
        SPIKELOOP_UNROLL
        for (int g = 0; g < G; ++g) narrow(n[g], c[g].search), open |= c[g].search.open;
    }
    alignas(64) double time[G * kDoubles], v[G * kDoubles], i[G * kDoubles], at_spike[G * kDoubles];
    alignas(64) int64_t fired[G * kDoubles], done[G * kDoubles];
    SPIKELOOP_UNROLL
    for (int g = 0; g < G; ++g) {
        const int at = g * kDoubles, from = first + at;
        Integers goes_on;
        Doubles spike, current;
        const Integers fires = go(n[g], c[g], load(p.until + from), load(p.reset + from), load(p.refractory + from), goes_on, spike, current);
        store(fired + at, fires), store(done + at, ~fires | goes_on);
        store(time + at, spike), store(at_spike + at, current), store(v + at, n[g].v), store(i + at, n[g].i);
    }
    for (int l = 0; l < G * kDoubles && first + l < p.count; ++l) {
        const int from = first + l, place = p.place[from];
        if (fired[l]) {
            p.fired[place] = true;
            if (time[l] > p.told[place]) ++p.spikes[place], out.push_back({time[l], place, float(at_spike[l])});
        }
        if (done[l]) {
            p.end[place] = {v[l], i[l], fired[l] ? time[l] : p.free[from]};
            continue;
        }
        const int to = kept++;
        p.time[to] = time[l], p.until[to] = p.until[from], p.v[to] = p.reset[from], p.i[to] = i[l], p.free[to] = time[l] + p.refractory[from];
        p.place[to] = place;
        if (!p.alike) p.copy(from, to);
    }
    return kept;
}

// Bring all of the pack to where they are bound for and empty it; spikes after `told` are appended to `out` with their place
// as unit. It is given up, with where they are unknown, once one of them has emitted more than `limit`.
inline void advance(Pack& p, int64_t limit, std::vector<Spike>& out) {
    constexpr int kPair = 2 * kDoubles;
    for (int64_t rounds = 0; p.count > 0; ++rounds) {  // a neuron spikes once a round at most
        for (int k = 0; rounds > limit && k < p.count; ++k)
            if (p.spikes[p.place[k]] > limit) p.count = 0;
        for (int k = p.count; k % kPair; ++k) {  // what fills the last groups stays where it is
            p.time[k] = p.until[k] = p.v[k] = p.i[k] = p.free[k] = 0;
            if (!p.alike) p.copy(0, k);
        }
        int kept = 0;
        for (int first = 0; first < p.count; first += kPair)
            kept = p.count - first > kDoubles ? go_on<2>(p, first, kept, out) : go_on<1>(p, first, kept, out);
        p.count = kept;
    }
}
