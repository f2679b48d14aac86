// `advance_noisy` of noise.hpp for neurons side by side, each on a way of its own; when one has arrived, the next sits down.
// In single precision, as the sweep: times count from where a neuron's interval begins, or from its last spike.

namespace {

using Floats = Vector<float>;

// exp(x) for x <= 0, and 1 - exp(x), of small ones, too.
struct Decay {
    Floats left, lost;
};
SPIKELOOP_INLINE Decay decay(Floats x) {
    constexpr float kShift = 0x1.8p23f;  // adding it rounds to a whole number, found in the lowest bits
    x = larger(x, Floats{} - 87);
    const Floats shifted = x * 0x1.715476p0f + kShift, n = shifted - kShift;
    const Floats r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    const Floats rest = r + r * r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720)))));
    Vector<int32_t> bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    Floats power;
    std::memcpy(&power, &bits, sizeof power);
    return {power + power * rest, (1 - power) - power * rest};
}

struct Seats {
    static constexpr int kSeats = kLanes<float>;
    alignas(64) float now[kSeats]{}, end[kSeats]{}, v[kSeats]{}, i[kSeats]{}, free[kSeats]{}, noise[kSeats]{}, seen[kSeats]{}, threshold[kSeats]{};
    alignas(64) float a[kSeats]{}, b[kSeats]{}, share[kSeats]{}, peak[kSeats]{}, rms[kSeats]{}, step[kSeats]{};  // see `Restless`
    double begin[kSeats];  // when `now` was 0
    Walk* walk[kSeats];
    Lane* lane[kSeats];
    Samples samples[kSeats];
    uint32_t taken = 0, changed = 0, sampled = 0;  // one bit a seat; changed: it was held, or has spiked

    void sit(const Layer& layer, int seat, const Noisy& who) {
        Walk& x = *who.walk;
        Lane& each = x.lane[who.lane];
        const Restless& n = layer.restless[x.first() + who.lane];
        walk[seat] = &x, lane[seat] = &each, samples[seat] = who.samples;
        begin[seat] = x.passage->time[x.n - 1];  // it stands at the next interval already
        now[seat] = 0, end[seat] = float(x.passage->time[x.n] - begin[seat]);
        v[seat] = who.v, i[seat] = who.i, free[seat] = float(each.free - begin[seat]), threshold[seat] = float(each.neuron.threshold);
        noise[seat] = float(each.noise.path.x), seen[seat] = float(each.noise.path.time - begin[seat]);
        a[seat] = n.a, b[seat] = n.b, share[seat] = n.share, peak[seat] = n.peak, rms[seat] = n.rms, step[seat] = n.step;
        const uint32_t bit = 1u << seat;
        taken |= bit, changed = free[seat] > 0 ? changed | bit : changed & ~bit, sampled = who.samples.count > 0 ? sampled | bit : sampled & ~bit;
    }

    void rise(int seat) {
        Walk& x = *walk[seat];
        const int l = int(lane[seat] - x.lane);
        keep_noise(seat);
        if (changed >> seat & 1) x.v[l] = v[seat], x.i[l] = i[seat];
        x.stand(l, x.passage->time[x.n]);
        taken &= ~(1u << seat), now[seat] = end[seat] = 0;
    }

    // Spikes after `wait`.
    void fire(int seat, double wait) {
        Lane& each = *lane[seat];
        const Walk& x = *walk[seat];
        const double until = x.passage->time[x.n], time = std::min(begin[seat] + (now[seat] + wait), until);
        each.free = time + each.neuron.refractory;
        begin[seat] = time, now[seat] = 0, end[seat] = float(until - time);
        v[seat] = float(each.neuron.reset), i[seat] *= float(std::exp(-b[seat] * wait));
        noise[seat] = 0, seen[seat] = free[seat] = float(each.neuron.refractory);
        changed |= 1u << seat;
        each.spike(time, *x.passage->spikes);
        threshold[seat] = float(each.neuron.threshold);
    }

    // A normal number each for those of `who`, zero for the others.
    Floats normals(uint32_t who) {
        alignas(64) float x[kSeats]{};
        for (; who; who &= who - 1) {
            const int seat = __builtin_ctz(who);
            x[seat] = float(lane[seat]->noise.random.normal());
        }
        return load(x);
    }

    void keep_noise(int seat) { lane[seat]->noise.path.x = noise[seat], lane[seat]->noise.path.time = begin[seat] + seen[seat]; }
};

// One piece of everybody's way: as far as the threshold is out of reach, or a step in which the noise is drawn.
void go_on(Seats& s) {
    const Floats now = load(s.now), end = load(s.end), v = load(s.v), i = load(s.i), free = load(s.free), seen = load(s.seen);
    const Floats a = load(s.a), b = load(s.b), threshold = load(s.threshold), rms = load(s.rms), none{}, one = none + 1;
    const Floats variance = rms * rms, reach = float(kNoiseReach * kNoiseReach) * variance;
    const auto here = now < end, held = here & (free > now), below = threshold > 0;
    const Floats rest = end - now, ago = a * (now - seen), part = a * rest, since = ago + part;
    Floats x = load(s.noise), now_seen = seen, dt = held ? smaller(free, end) - now : rest;
    // All of the rest, if the membrane's bound and what is known of the noise, see `stays_below`, leave room for it.
    const Floats most = positive<float>(v) + (i > v ? positive<float>(i) * smaller(load(s.peak), part) : none);
    const Floats room = threshold - most - x * (x > 0 ? one / (1 + ago) : positive<float>(1 - since));
    auto near = here & ~held & ~(below & (room > 0) & (room * room > reach * smaller(2 * since, one)));
    if (any(near)) {
        if (const auto unseen = near & (seen < now); any(unseen)) {
            const Floats lost = decay(-ago).lost;
            x = unseen ? x * (1 - lost) + rms * root(lost * (2 - lost)) * s.normals(bits_of(unseen)) : x, now_seen = unseen ? now : seen;
        }
        // Else as long as  gap > climb dt + reach sqrt(2 dt / tau_mem),  for V' <= (i - v) / tau_mem where I > 0, and noise below
        // zero goes there; or a step. Time must go on in single precision, too.
        const auto driven = i > 0;
        const Floats gap = positive<float>(threshold - (driven ? v : positive<float>(v)) - x);
        const Floats climb = a * ((driven ? positive<float>(i - v) : none) + positive<float>(-x)), spread = 2 * a * reach;
        const Floats safe = 2 * gap / (root(spread) + root(spread + 4 * climb * gap)), quiet = safe * safe, step = load(s.step);
        dt = near ? smaller(rest, larger(larger(quiet, step), now * 0x1p-22f)) : dt;
        near &= ~(below & (quiet >= smaller(step, rest)));
    }
    const Decay em = decay(-a * dt), es = decay(-b * dt);
    const Floats difference = (b - a) * dt, y = larger(difference, -difference);  // `flow` of lif.hpp
    const Floats phi = 1 - y * (1.0f / 2 - y * (1.0f / 6 - y * (1.0f / 24 - y * (1.0f / 120 - y * (1.0f / 720)))));
    const Floats g = y < 0.25f ? larger(em.left, es.left) * a * dt * phi : load(s.share) * (em.left - es.left);
    const Floats next_v = held ? v : v * em.left + i * g, next_now = held ? smaller(free, end) : dt < rest ? now + dt : end;
    const Floats next_x = any(near) ? x * em.left + rms * root(em.lost * (1 + em.left)) * s.normals(bits_of(near)) : x;
    const Floats from = threshold - v - x, to = threshold - next_v - next_x, spread = 2 * variance * a * dt;
    alignas(64) float wait[Seats::kSeats];
    store(wait, none - 1);
    for (uint32_t close = bits_of(near & ~((from > 0) & (to > 0) & (2 * from * to > 40 * spread))); close; close &= close - 1) {
        const int seat = __builtin_ctz(close);
        wait[seat] = float(bridge_crossing(from[seat], to[seat], spread[seat], dt[seat], s.lane[seat]->noise.random));
    }
    for (uint32_t some = s.sampled & bits_of(here); some; some &= some - 1) {
        const int seat = __builtin_ctz(some);
        const double t = s.begin[seat] + now[seat], until = s.walk[seat]->passage->time[s.walk[seat]->n];
        const double length = wait[seat] >= 0 ? wait[seat] : next_now[seat] < end[seat] ? next_now[seat] - now[seat] : until - t;
        store(s.noise, x), store(s.seen, now_seen), s.keep_noise(seat);
        s.lane[seat]->see({t, length, dt[seat], v[seat], i[seat], x[seat], next_x[seat], bool(held[seat]), bool(near[seat])}, s.samples[seat]);
    }
    const auto fires = here & (load(wait) >= 0);
    store(s.now, here & ~fires ? next_now : now), store(s.v, next_v), store(s.i, fires ? i : i * es.left);
    store(s.noise, near ? next_x : x), store(s.seen, near ? next_now : now_seen);
    for (uint32_t who = bits_of(fires); who; who &= who - 1) s.fire(__builtin_ctz(who), wait[__builtin_ctz(who)]);
}

// All to the ends of their intervals.
void advance(const Layer& layer, std::vector<Noisy>& waiting, Watch& watch) {
    Seats seats;
    size_t next = 0;
    const auto take = [&](int seat) {
        if (next < waiting.size()) seats.sit(layer, seat, waiting[next++]);
    };
    for (int seat = 0; seat < Seats::kSeats; ++seat) take(seat);
    while (seats.taken) {
        go_on(seats);
        watch.glance();
        for (uint32_t arrived = seats.taken & reaches<float>(load(seats.now), load(seats.end)); arrived; arrived &= arrived - 1) {
            const int seat = __builtin_ctz(arrived);
            seats.rise(seat), take(seat);
        }
    }
    waiting.clear();
}

}  // namespace
