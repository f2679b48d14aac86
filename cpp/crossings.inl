// `advance` of lif.hpp for a pack of neurons.

struct Group {  // eight neurons
    Doubles time, v, i, a, b, peak, threshold;
    Doubles share = a / (b - a);
    SPIKELOOP_INLINE Flows after(const Doubles& dt) const { return flows(dt, a, b, share); }
};

SPIKELOOP_INLINE bool none_of(const Integers& mask) { return !any(mask); }

// `stationary` of lif.hpp for i > max(v, 0).
SPIKELOOP_INLINE Doubles turning_point(const Group& n) {
    const Doubles u = (n.i - n.v) / (n.i * n.b), d = n.b - n.a, x = d * u;
    const Doubles t = magnitude(x) < 1e-14 ? u : -log_one_plus(-x) / d;
    return (x < 1.0) & (t > 0.0) ? t : all_of(kInfinity);
}

// Which of the rising neurons reach their threshold before `dt`, given their ends; `hi`: a time by which they have.
SPIKELOOP_INLINE Integers crossing(const Group& n, const Doubles& dt, const Integers& rising, const Doubles& end_v, const Doubles& end_i, Doubles& hi) {
    Integers found = rising & (end_v >= n.threshold);
    hi = dt;
    const Doubles bound = larger(n.v, all_of(0)) + n.i * smaller(n.a * dt, n.peak * (1 + kMargin));
    const Integers turns = rising & ~found & (end_i < end_v) & (bound >= n.threshold);
    if (none_of(turns)) return found;
    const Doubles top = turning_point(n);
    const Flows f = n.after(top < dt ? top : dt);
    const Doubles decayed = n.v * f.em, brought = n.i * f.g;  // a peak at the threshold, but for rounding, is none
    const Integers above = turns & (top < dt) & (decayed + brought > n.threshold + kRounding * (magnitude(decayed) + brought));
    hi = above ? top : hi;
    return found | above;
}

// Roots of v(t) = threshold in [0, hi], where v rises and is concave: Halley's iteration kept inside the bracket, started
// from the parabola through v, v' and v'' at 0.
SPIKELOOP_INLINE Doubles solve(const Group& n, const Integers& wanted, Doubles hi) {
    const Doubles slope = n.a * (n.i - n.v), bend = -n.a * (n.b * n.i + slope), rest = n.threshold - n.v;
    Doubles lo = all_of(0), t = 2 * rest / (slope + root(larger(slope * slope + 2 * bend * rest, all_of(0))));
    t = (t > lo) & (t < hi) ? t : 0.5 * hi;
    Integers open = wanted;
    for (int iteration = 0; iteration < 100; ++iteration) {
        if (iteration > 1 && !any(open)) break;  // hardly any need less than two
        const Flows f = n.after(t);
        const Doubles v = n.v * f.em + n.i * f.g, i = n.i * f.es, gap = v - n.threshold;
        lo = gap < 0 ? t : lo, hi = gap < 0 ? hi : t;
        const Doubles rise = n.a * (i - v), curve = -n.a * (n.b * i + rise), third = n.a * (n.b * n.b * i - curve);
        const Doubles step = -2 * gap * rise / (2 * rise * rise - gap * curve), next = t + step;
        const Integers inside = (next >= lo) & (next <= hi);
        // Halley leaves an error of (v''' / 6 v' - (v'' / 2 v')^2) step^3: done once that is below the last digit of the time
        const Doubles error = (magnitude(third * rise) * (1.0 / 6) + 0.25 * curve * curve) * magnitude(step * step * step);
        const Integers done = (inside & (error <= 1e-17 * (n.time + t) * rise * rise)) | (hi - lo <= 1e-16 * hi);
        t = open ? (inside ? next : 0.5 * (lo + hi)) : t;
        open &= ~done;
    }
    return t;
}

// One group, to its next spikes or to the end: which of them spike, and all where they are then.
SPIKELOOP_INLINE Integers step(Group& n, const Doubles& free, const Doubles& end) {
    const Doubles until = free > n.time ? smaller(free, end) : n.time;
    if (any(until > n.time)) n.i *= exponential(n.b * (n.time - until)), n.time = until;
    const Doubles dt = end - n.time;
    const Flows f = n.after(dt);
    const Doubles end_v = n.v * f.em + n.i * f.g, end_i = n.i * f.es;
    const Integers rising = (n.i > n.v) & (n.i > 0) & (dt > 0), now = rising & (n.v >= n.threshold);
    Doubles hi;
    const Integers later = crossing(n, dt, rising & ~now, end_v, end_i, hi);
    if (none_of(now | later)) {
        n.time = end, n.v = end_v, n.i = end_i;
        return now;
    }
    const Doubles wait = later ? solve(n, later, hi) : all_of(0);
    const Integers fires = now | later;
    n.time = fires ? n.time + wait : end;
    n.v = end_v;
    n.i = fires ? n.i * exponential(-n.b * wait) : end_i;
    return fires;
}

// Bring all of the pack to where they are bound for and empty it; spikes are appended to `out` with their place as unit.
// It is given up, with where they are unknown, once one of them has emitted more than `limit`.
inline void advance(Pack& p, int64_t limit, std::vector<Spike>& out) {
    while (p.count > 0) {
        int kept = 0;
        for (int k = p.count; k % kDoubles; ++k)  // what fills the last group stays where it is
            p.time[k] = p.until[k] = p.v[k] = p.i[k] = p.free[k] = p.peak[k] = 0, p.a[k] = p.a[0], p.b[k] = p.b[0], p.threshold[k] = p.threshold[0];
        for (int first = 0; first < p.count; first += kDoubles) {
            Group n{load(p.time + first), load(p.v + first), load(p.i + first), load(p.a + first), load(p.b + first), load(p.peak + first), load(p.threshold + first)};
            const Integers fires = step(n, load(p.free + first), load(p.until + first));
            alignas(64) double time[kDoubles], v[kDoubles], i[kDoubles];
            alignas(64) int64_t fired[kDoubles];
            store(time, n.time), store(v, n.v), store(i, n.i), store(fired, fires);
            for (int l = 0; l < kDoubles && first + l < p.count; ++l) {
                const int from = first + l, place = p.place[from];
                if (!fired[l]) {
                    p.end[place] = {v[l], i[l], p.free[from]};
                    continue;
                }
                if (++p.spikes[place] > limit) {
                    p.count = 0;
                    return;
                }
                out.push_back({time[l], place});
                const int to = kept++;
                p.time[to] = time[l], p.until[to] = p.until[from], p.v[to] = p.reset[from], p.i[to] = i[l], p.free[to] = time[l] + p.refractory[from];
                p.a[to] = p.a[from], p.b[to] = p.b[from], p.peak[to] = p.peak[from], p.threshold[to] = p.threshold[from], p.reset[to] = p.reset[from];
                p.refractory[to] = p.refractory[from], p.place[to] = place;
            }
        }
        p.count = kept;
    }
}
