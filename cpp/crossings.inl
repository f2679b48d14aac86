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

// Whether the membrane may reach a level in an interval, by no more than rounding more often than it does; one time constant is
// `ratio` times the other, 2 to 4. With e = exp(-t / tau_mem), `end` there when it ends, it is c e - d e^ratio: it turns where
// e^(ratio - 1) = c / (ratio d), at c e (ratio - 1) / ratio.
template <class V>
SPIKELOOP_INLINE uint32_t may_reach(const V& v, const V& i, const V& next_v, float end, int ratio, const V& level) {
    const float margin = float(kMargin), r = float(ratio);
    const auto power = [=](const auto& e) { return ratio == 2 ? e : ratio == 3 ? e * e : e * e * e; };
    const V d = i / (r - 1), c = v + d + margin * (magnitude(v) + d), turning = r * (1 - margin) * d;
    const V least = level * ((1 - margin) * r / (r - 1)) / c;  // e there, if it just reaches the level
    const auto turns = (i > v) & (i > 0) & (c > 0) & (c >= turning * power(end)) & (c >= turning * power(least));
    return bits_of((larger(v, next_v) >= level) | turns);
}

// `advance` of lif.hpp for a pack of neurons.

struct Group {  // eight neurons
    Doubles time, v, i;
    Rates rate;
    Doubles peak, threshold;
};

// V - threshold and its derivatives.
template <class V>
struct Derivatives {
    V gap, rise, curve, third, fourth;
    // Householder's step of third order towards the root.
    SPIKELOOP_INLINE V step() const {
        const V square = rise * rise, both = gap * curve;
        return -gap * (6 * square - 3 * both) / (rise * (6 * square - 6 * both) + gap * gap * third);
    }
    // It leaves an error of at most this times step^4 / rise^3.
    SPIKELOOP_INLINE V error() const {
        const V bend = magnitude(curve);
        return bend * (0.125 * bend * bend + (1.0 / 6) * magnitude(third) * rise) + (1.0 / 24) * magnitude(fourth) * rise * rise;
    }
};

// From 0 to where a parabola of this slope and bend at 0 has risen by `rest`; twice as far as its tangent if it never does.
template <class V>
SPIKELOOP_INLINE V parabola(const V& slope, const V& bend, const V& rest) {
    return 2 * rest / (slope + root(larger(slope * slope + 2 * bend * rest, V{})));
}

// Whether V turns back, above the threshold by more than rounding; and whether it does so before the end.
struct Turn {
    Integers above, before;
};

// `stationary` of lif.hpp for i > max(v, 0).
SPIKELOOP_INLINE Doubles turning_point(const Group& n) {
    const Doubles u = (n.i - n.v) / (n.i * n.rate.b), d = n.rate.b - n.rate.a, x = d * u;
    const Doubles t = magnitude(x) < 1e-14 ? u : -log_one_plus(-x) / d;
    return (x < 1.0) & (t > 0.0) ? t : all_of(kInfinity);
}

// How far ahead of a neuron something is, which is what its crossing is solved for; what is asked of it is explained in `InTime`.
template <class A>
concept Distance = requires(const Group& n, const Doubles& x) {
    { A::ahead(x, x) } -> std::same_as<Doubles>;
    { A::wait(n, x) } -> std::same_as<Doubles>;
    { A::farthest() } -> std::same_as<Doubles>;
    { A::twice(x) } -> std::same_as<Doubles>;
    { A::flow(n, x) } -> std::same_as<Flows>;
    { A::most(n, x) } -> std::same_as<Doubles>;
    { A::current(n, x) } -> std::same_as<Doubles>;
    { A::left(n, x, x, x) } -> std::same_as<Doubles>;
    { A::digit(n, x) } -> std::same_as<Doubles>;
    { A::at(n, x) } -> std::same_as<Derivatives<Doubles>>;
    { A::start(n) } -> std::same_as<Doubles>;
    { A::turn(n, x, x) } -> std::same_as<Turn>;
};

// In time.
struct InTime {
    static SPIKELOOP_INLINE Doubles ahead(const Doubles& dt, const Doubles&) { return dt; }
    static SPIKELOOP_INLINE Doubles wait(const Group&, const Doubles& s) { return s; }  // until then, in time
    static SPIKELOOP_INLINE Doubles farthest() { return all_of(kInfinity); }
    static SPIKELOOP_INLINE Doubles twice(const Doubles& s) { return 2.0 * s; }  // to look on where no end is known
    static SPIKELOOP_INLINE Flows flow(const Group& n, const Doubles& s) { return flows(s, n.rate); }
    static SPIKELOOP_INLINE Doubles most(const Group& n, const Doubles& s) { return n.rate.a * s; }  // that a unit current adds to V
    static SPIKELOOP_INLINE Doubles current(const Group& n, const Doubles& s) { return n.i * exponential(-n.rate.b * s); }
    // How far the end is for a neuron that has come to its spike at `s`, and was `all` before.
    static SPIKELOOP_INLINE Doubles left(const Group& n, const Doubles& end, const Doubles&, const Doubles&) { return end - n.time; }
    // An error in s that is one of its relative size in the time of the spike.
    static SPIKELOOP_INLINE Doubles digit(const Group& n, const Doubles& s) { return n.time + s; }
    static SPIKELOOP_INLINE Derivatives<Doubles> at(const Group& n, const Doubles& s) {
        const Doubles a = n.rate.a, b = n.rate.b;
        const Flows f = flows(s, n.rate);
        const Doubles v = n.v * f.em + n.i * f.g, i = n.i * f.es, rise = a * (i - v);
        const Doubles curve = -a * (b * i + rise), third = a * (b * b * i - curve), fourth = -a * (b * b * b * i + third);
        return {v - n.threshold, rise, curve, third, fourth};
    }
    static SPIKELOOP_INLINE Doubles start(const Group& n) {
        const Doubles a = n.rate.a, slope = a * (n.i - n.v);
        return parabola<Doubles>(slope, -a * (n.rate.b * n.i + slope), n.threshold - n.v);
    }
    static SPIKELOOP_INLINE Turn turn(const Group& n, const Doubles& dt, const Doubles&) {
        const Doubles top = turning_point(n);
        const Flows f = flows(top < kInfinity ? top : dt, n.rate);
        const Doubles decayed = n.v * f.em, brought = n.i * f.g;
        const Integers turns = top < kInfinity;
        return {turns & (decayed + brought > n.threshold + kRounding * (magnitude(decayed) + brought)), turns & (top < dt)};
    }
};

// The same where one time constant is twice to four times the other: in x = 1 - exp(-t / tau_mem). No step towards a root needs an
// exponential, and no digits are lost where x is small.
template <int Ratio>
struct InDecay {
    static constexpr double kRatio = Ratio;
    static constexpr int kFirst = Ratio == 2 ? 0 : 2;  // steps before: a parabola is all there is where the ratio is 2
    static SPIKELOOP_INLINE Doubles ahead(const Doubles& dt, const Doubles& a) { return exponential_of(-a * dt).below_one(); }
    static SPIKELOOP_INLINE Doubles wait(const Group& n, const Doubles& x) { return -log_one_plus(-x) / n.rate.a; }
    static SPIKELOOP_INLINE Doubles farthest() { return all_of(1.0); }
    static SPIKELOOP_INLINE Doubles twice(const Doubles& x) { return x; }  // the end is known
    static SPIKELOOP_INLINE Flows flow(const Group&, const Doubles& x) {
        const Doubles em = 1.0 - x, square = em * em, lost = em * x;
        if constexpr (Ratio == 2) return {em, square, lost};
        if constexpr (Ratio == 3) return {em, square * em, 0.5 * (lost * (1.0 + em))};
        return {em, square * square, (1.0 / 3) * (lost * (1.0 + em + square))};
    }
    static SPIKELOOP_INLINE Doubles most(const Group&, const Doubles& x) { return x; }
    static SPIKELOOP_INLINE Doubles power(const Doubles& e, int number) {
        Doubles product = all_of(1.0);
        for (int k = 0; k < number; ++k) product = product * e;
        return product;
    }
    static SPIKELOOP_INLINE Doubles current(const Group& n, const Doubles& x) { return n.i * power(1.0 - x, Ratio); }
    static SPIKELOOP_INLINE Doubles left(const Group&, const Doubles&, const Doubles& all, const Doubles& x) {
        return positive<double>((all - x) / (1.0 - x));
    }
    static SPIKELOOP_INLINE Doubles digit(const Group& n, const Doubles& x) { return (n.rate.a * n.time + x) * (1.0 - x); }
    // V has risen by x (slope - i x bend), where `bend` depends on the ratio; `rest` is what it has to.
    template <class V>
    static SPIKELOOP_INLINE Derivatives<V> at(const V& i, const V& slope, const V& rest, const V& x) {
        typedef std::remove_cvref_t<decltype(x[0])> T;
        constexpr T r = Ratio, grows = r / (r - 1);
        const V e = T(1) - x, low = Ratio == 2 ? i : Ratio == 3 ? i * e : i * e * e, bent = grows * i - slope;
        const V bend = Ratio == 2 ? T(1) - V{} : Ratio == 3 ? T(1.5) - T(0.5) * x : T(2) - x * (T(4) / 3 - T(1) / 3 * x);
        return {x * (slope - i * (x * bend)) - rest, grows * low * e - bent, -r * low,
                Ratio == 2 ? V{} : Ratio == 3 ? T(3) * i : T(8) * i * e, Ratio == 4 ? T(-8) * i : V{}};
    }
    static SPIKELOOP_INLINE Derivatives<Doubles> at(const Group& n, const Doubles& x) { return at<Doubles>(n.i, n.i - n.v, n.threshold - n.v, x); }
    // In single precision, close enough for a step in double precision to be the last.
    static SPIKELOOP_INLINE Doubles start(const Group& n) {
        typedef Singles V;
        const V i = singles(n.i), slope = singles(n.i - n.v), rest = singles(n.threshold - n.v);
        V x = parabola<V>(slope, float(-kRatio) * i, rest);
        for (int k = 0; k < kFirst; ++k) x += at<V>(i, slope, rest, x).step();
        return doubles(smaller(larger(x, V{}), 1.0f - V{}));
    }
    static SPIKELOOP_INLINE Turn turn(const Group& n, const Doubles&, const Doubles& em) {
        const Doubles d = n.i * (1.0 / (Ratio - 1)), c = n.v + d;
        const Doubles top = n.threshold * kRatio / ((kRatio - 1) * c), decayed = n.v * top;  // exp(-t / tau_mem) there, if it just reaches the threshold
        const Doubles least = top * (1.0 + kRounding * (magnitude(decayed) + magnitude(n.threshold - decayed)) / n.threshold);
        const Doubles turning = kRatio * d;  // e^(ratio - 1) = c / turning where it turns
        const Integers turns = (c > 0.0) & (d > 0.0);
        return {turns & (c > turning * power(least, Ratio - 1)), turns & (c > turning * power(em, Ratio - 1))};
    }
};

// Which of the rising neurons reach their threshold before the end, or by no more than rounding later, given what is kept of v
// by then, what has come, and i.
template <Distance Ahead>
SPIKELOOP_INLINE Integers crossing(const Group& n, const Doubles& end, const Integers& rising, const Doubles& kept, const Doubles& come, const Flows& f) {
    const Doubles end_i = n.i * f.es;
    const Doubles end_v = kept + come, unsure = kUnsure * (magnitude(kept) + come);
    const Integers found = rising & (end_v >= n.threshold + unsure), near = end_v >= n.threshold - unsure;
    const Doubles bound = positive<double>(n.v) + n.i * (smaller(Ahead::most(n, end), n.peak) * (1 + kMargin));
    const Integers turns = rising & ~found & ((end_i < end_v) | (end_i < kNothing) | near) & (bound >= n.threshold);
    if (!any(turns)) return found;
    const Turn back = Ahead::turn(n, end, f.em);
    return found | (turns & back.above & (back.before | near));
}

// Roots of V = threshold ahead, before `hi`, where V rises and is concave.
struct Search {
    Doubles lo, hi, s;
    Integers open;
};

// A step towards the root, kept inside the bracket; where V falls, or is above, the root lies before.
template <Distance Ahead>
SPIKELOOP_INLINE void narrow(const Group& n, Search& x) {
    const Derivatives<Doubles> f = Ahead::at(n, x.s);
    const Integers before = (f.gap < 0) & (f.rise > 0);
    x.lo = before ? x.s : x.lo, x.hi = before ? x.hi : x.s;
    const Doubles step = f.step(), next = x.s + step, square = step * step;
    const Integers inside = (next >= x.lo) & (next <= x.hi) & (f.rise > 0);
    // done once the error is below the last digit
    const Integers done = (inside & (f.error() * square * square <= 1e-17 * Ahead::digit(n, x.s) * f.rise * f.rise * f.rise)) | (x.lo >= x.hi * (1 - 1e-16));
    const Doubles other = x.hi < kInfinity ? 0.5 * (x.lo + x.hi) : Ahead::twice(x.s);
    x.s = x.open ? (inside ? next : other) : x.s;
    x.open &= ~done;
}

// One group without arrivals until `end`: where it would be then, and who fires before.
struct Course {
    Doubles ahead, end_v, end_i;
    Integers now, later;
    Search search;
};

template <Distance Ahead>
SPIKELOOP_INLINE Course course(Group& n, const Doubles& free, const Doubles& end, const Doubles& ahead) {
    Course c;
    c.ahead = ahead;
    const Doubles until = free > n.time ? smaller(free, end) : n.time;
    if (const Integers held = until > n.time; any(held)) {
        n.i *= exponential(n.rate.b * (n.time - until)), n.time = until;
        c.ahead = held ? Ahead::ahead(end - n.time, n.rate.a) : c.ahead;
    }
    const Flows f = Ahead::flow(n, c.ahead);
    const Doubles kept = n.v * f.em, come = n.i * f.g;
    c.end_v = kept + come, c.end_i = n.i * f.es;
    const Integers rising = (n.i > n.v) & (n.i > 0) & (c.ahead > 0);
    c.now = rising & (n.v >= n.threshold);
    c.later = crossing<Ahead>(n, c.ahead, rising & ~c.now, kept, come, f);
    c.search = {all_of(0), Ahead::farthest(), Ahead::start(n), c.later};
    return c;
}

// To the next spike of those that fire, which it returns, and the others to the end. Those that cannot reach the threshold
// again, for there is no refractory period and too little current, go on to the end: `goes_on`.
template <Distance Ahead>
SPIKELOOP_INLINE Integers go(Group& n, Course& c, const Doubles& end, const Doubles& reset, const Doubles& refractory, Integers& goes_on,
                             Doubles& spike, Doubles& current) {
    const Doubles wait = c.later ? Ahead::wait(n, c.search.s) : all_of(0);
    const Integers later = c.later & (n.time + wait <= end), fires = c.now | later;
    const Doubles s = later ? c.search.s : all_of(0);
    n.time = fires ? n.time + wait : end;
    n.v = c.end_v;
    n.i = fires ? Ahead::current(n, s) : c.end_i;
    spike = n.time, current = n.i;
    c.ahead = Ahead::left(n, end, c.ahead, s);
    const Doubles bound = positive<double>(reset) + n.i * (smaller(Ahead::most(n, c.ahead), n.peak) * (1 + kMargin));
    goes_on = fires & (refractory == 0) & (c.ahead >= 0) & (bound < n.threshold);
    if (any(goes_on)) {
        const Flows f = Ahead::flow(n, c.ahead);
        n.v = goes_on ? reset * f.em + n.i * f.g : n.v;
        n.i = goes_on ? n.i * f.es : n.i;
    }
    return fires;
}

// The groups from place `first` on, side by side, for a search waits for its own results. Those that spike are put back, from
// place `kept` on; returns where these end.
template <Distance Ahead, int G>
SPIKELOOP_INLINE int go_on(Pack& p, int first, int kept, bool first_round) {
    Group n[G];
    Course c[G];
    Integers open{};
    SPIKELOOP_UNROLL
    for (int g = 0; g < G; ++g) {
        const int at = first + g * kDoubles, kind = p.alike ? 0 : at;
        n[g] = {load(p.time + at), load(p.v + at), load(p.i + at), {load(p.a + kind), load(p.b + kind), p.ratio}, load(p.peak + kind), load(p.threshold + kind)};
        c[g] = course<Ahead>(n[g], load(p.free + at), load(p.until + at), load(p.ahead + at));
        open |= c[g].search.open;
    }
    for (int step = 0; step < 100 && any(open); ++step) {
        open = Integers{};
        SPIKELOOP_UNROLL
        for (int g = 0; g < G; ++g) narrow<Ahead>(n[g], c[g].search), open |= c[g].search.open;
    }
    SPIKELOOP_UNROLL
    for (int g = 0; g < G; ++g) {
        const int from = first + g * kDoubles, kind = p.alike ? 0 : from;
        const uint32_t all = (1u << std::min(p.count - from, kDoubles)) - 1;
        Integers goes_on;
        Doubles time, current;
        const Integers fires = go<Ahead>(n[g], c[g], load(p.until + from), load(p.reset + kind), load(p.refractory + kind), goes_on, time, current);
        const uint32_t fired = bits_of(fires) & all, again = fired & ~bits_of(goes_on), sent = fired & bits_of(time > load(p.told + from));
        const Doubles free = fires ? time : load(p.free + from);
        const Integers place = load(p.place + from);
        store_picked(p.sent_time + p.sent, time, sent), store_picked(p.sent_current + p.sent, current, sent);
        p.sent += store_picked(p.sent_place + p.sent, place, sent);
        if (first_round)
            store(p.end_v + from, n[g].v), store(p.end_i + from, n[g].i), store(p.end_free + from, free), p.fired[from / kDoubles] = uint8_t(fired);
        else
            for (uint32_t ends = all & ~again; ends; ends &= ends - 1) {
                const int l = __builtin_ctz(ends);
                p.end_v[place[l]] = n[g].v[l], p.end_i[place[l]] = n[g].i[l], p.end_free[place[l]] = free[l];
            }
        for (uint32_t left = again; left; left &= left - 1) {
            const int l = __builtin_ctz(left), to = kept++;
            p.time[to] = time[l], p.until[to] = p.until[from + l], p.v[to] = p.reset[kind + l], p.i[to] = n[g].i[l];
            p.free[to] = time[l] + p.refractory[kind + l], p.ahead[to] = c[g].ahead[l], p.told[to] = p.told[from + l], p.place[to] = place[l];
            if (!p.alike) p.copy(from + l, to);
        }
    }
    return kept;
}

// Bring all of the pack to where they are bound for and empty it. It is given up, with where they are unknown, once one of them
// has emitted more than `limit` spikes.
template <Distance Ahead>
void advance_by(Pack& p, int64_t limit) {
    constexpr int kPair = 2 * kDoubles;
    std::iota(p.place, p.place + p.count, 0), std::fill_n(p.spikes, p.count, 0);
    for (int k = 0; k < p.count; k += kDoubles) store(p.ahead + k, Ahead::ahead(load(p.until + k) - load(p.time + k), load(p.a + (p.alike ? 0 : k))));
    for (int64_t rounds = 0; p.count > 0; ++rounds) {  // a neuron spikes once a round at most
        for (int k = 0; rounds > limit && k < p.count; ++k)
            if (p.spikes[p.place[k]] > limit) p.count = 0;
        for (int k = p.count; k % kPair; ++k) {  // what fills the last groups stays where it is
            p.time[k] = p.until[k] = p.v[k] = p.i[k] = p.free[k] = p.ahead[k] = 0;
            if (!p.alike) p.copy(0, k);
        }
        int kept = 0;
        for (int first = 0; first < p.count; first += kPair)
            kept = p.count - first > kDoubles ? go_on<Ahead, 2>(p, first, kept, rounds == 0) : go_on<Ahead, 1>(p, first, kept, rounds == 0);
        p.count = kept;
        p.send();
    }
}

inline void advance(Pack& p, int64_t limit) {
    switch (p.ratio) {
        case 2: return advance_by<InDecay<2>>(p, limit);
        case 3: return advance_by<InDecay<3>>(p, limit);
        case 4: return advance_by<InDecay<4>>(p, limit);
        default: return advance_by<InTime>(p, limit);
    }
}
