// One neuron of `stepped.hpp` in double precision, and its way through a step that is cut wherever something happens.
#pragma once
#include <functional>
#include <utility>

#include "noise.hpp"
#include "stepped.hpp"

namespace spikeloop {

struct SteppedCompartment {
    double rate, leaky;                  // 1 / tau_mem; 1 or 0
    double threshold, reset, refractory;  // potentials relative to leak
    double slope, exponential, rise;      // slope_factor, exponential_threshold, and u at the threshold
    double adaptation, a, b;             // 1 / tau_adaptation
    double floor, noise, threshold_noise;
    double u(double v) const { return std::exp((exponential - v) / slope); }
    double v(double u) const { return exponential - slope * std::log(std::max(u, 0.5 * rise)); }
};
struct SteppedSlot {
    int compartment, receptor;
    double rate, rho, most;
};
struct SteppedEdge {
    int c, d;
    double into_c, into_d, offset;  // 1 / s; leak of d - leak of c
};

// What a neuron of a population has; slots are only those receptors that anything reaches.
struct SteppedUnit {
    const SteppedCompartment* compartment;
    const SteppedSlot* slot;
    const SteppedEdge* edge;
    int compartments, slots, edges, output;
};

// Something that reaches one neuron within a step, `at` seconds after its beginning.
struct SteppedArrival {
    double at, weight;
    int slot;         // -1: J of `compartment` becomes `weight`
    int compartment;
};

// A neuron on its way through one step of length h. Compartments: how many, if that is known when compiling, or 0.
template <int Compartments>
class SteppedWalk {
    static constexpr int kMost = Compartments ? Compartments : kMaxCompartments;
    int count() const { return Compartments ? Compartments : n_.compartments; }

  public:
    double v[kMost], w[kMost], i[kMaxSlots];
    double current[kMost];          // J
    double held[kMost];             // until when, seconds from the beginning of the step; <= 0: free
    double shift[kMost];            // of the threshold
    double noise0[kMost], noise1[kMost];  // of the membrane at the beginning and the end of the step
    bool crosses = true;                       // else thresholds are not looked at
    double peak = -kInfinity, peak_at = 0;     // highest v of the output compartment, and when

    SteppedWalk(const SteppedUnit& n, double h) : n_(n), h_(h) {}

    // From `now` to `end`, through arrivals in order; spike(c, at) is called for each crossing, which it may answer by `jump`;
    // false: no further.
    template <class OnSpike>
    void operator()(double end, const std::vector<SteppedArrival>& arrivals, OnSpike&& spike) {
        size_t next = 0;
        while (next < arrivals.size() && arrivals[next].at < now_) ++next;
        for (;;) {
            for (; next < arrivals.size() && arrivals[next].at <= now_; ++next) arrive(arrivals[next]);
            if (const int c = together(); c >= 0) {
                if (!spike(c, now_)) return;
                continue;
            }
            if (now_ >= end) return;
            double horizon = h_;
            for (int c = 0; c < count(); ++c)
                if (held[c] > now_) horizon = std::min(horizon, held[c]);
            const double until = std::min(next < arrivals.size() ? std::min(arrivals[next].at, end) : end, horizon);
            if (const int c = go(until, horizon); c >= 0 && !spike(c, now_)) return;
        }
    }
    double now() const { return now_; }

    // dv / dt of a compartment where the neuron is.
    double slope(int c) {
        set_free();
        double x[2 * kMost], d[2 * kMost];
        Inputs now;
        pack(x), current_at(0, now);
        derivative(x, now, d);
        return d[c] * (steep_[c] ? -n_.compartment[c].slope / x[c] : 1);
    }
    // sum_r I_r (1 - rho_r v) of a compartment.
    double entering(int c) const {
        double sum = 0;
        for (int s = 0; s < n_.slots; ++s)
            if (n_.slot[s].compartment == c) sum += i[s] * (1 - n_.slot[s].rho * v[c]);
        return sum;
    }
    // The jump at a crossing: at reset until `release`.
    void jump(int c, double release) {
        const SteppedCompartment& x = n_.compartment[c];
        v[c] = x.reset, w[c] += x.b, held[c] = std::max(release, now_);
    }
    double noise(int c) const { return noise0[c] + (noise1[c] - noise0[c]) * (now_ / h_); }
    // Noise that goes in a line from x now to `to` at `end`.
    void set_noise(int c, double x, double to, double end) {
        const double rate = end > now_ ? (to - x) / (end - now_) : 0.0;
        noise0[c] = x - rate * now_, noise1[c] = noise0[c] + rate * h_;
    }

  private:
    static constexpr double kSteep = 0.05;  // of an e-fold of the exponential term within a piece: u is integrated, not v
    static constexpr double kRough = 0.4;   // likewise: the piece is halved
    static constexpr double kMostPieces = 4096;  // of a step, for the sake of conductances
    struct Inputs {
        double sum[kMost], rho[kMost];
    };

    void arrive(const SteppedArrival& a) {
        if (a.slot < 0) {
            current[a.compartment] = a.weight;
            return;
        }
        const SteppedSlot& slot = n_.slot[a.slot];
        i[a.slot] = std::clamp(i[a.slot] + a.weight, -slot.most, slot.most);
        if (held[slot.compartment] <= now_) v[slot.compartment] = std::max(v[slot.compartment], n_.compartment[slot.compartment].floor);
    }

    void set_free() {
        for (int c = 0; c < count(); ++c) free_[c] = held[c] <= now_;
    }

    // The state that is integrated: v, or u where the exponential term is steep; then w.
    void pack(double* x) {
        for (int c = 0; c < count(); ++c) x[c] = steep_[c] ? n_.compartment[c].u(v[c]) : v[c], x[count() + c] = w[c];
    }

    // Of `dt` later; keeps what I is then, but for 0.
    void current_at(double dt, Inputs& in) {
        std::copy_n(current, count(), in.sum);
        std::fill_n(in.rho, count(), 0.0);
        for (int s = 0; s < n_.slots; ++s) {
            const double now = dt == 0 ? i[s] : later_[s] = i[s] * std::exp(-n_.slot[s].rate * dt);
            in.sum[n_.slot[s].compartment] += now, in.rho[n_.slot[s].compartment] += n_.slot[s].rho * now;
        }
    }

    // dx / dt. Returns the fastest rate at which the exponential term, or u, changes; that of conductances counts in proportion to
    // what is allowed of each.
    double derivative(const double* x, const Inputs& in, double* d) const {
        const int count = this->count();
        double v[kMost], fastest = 0;
        for (int c = 0; c < count; ++c) v[c] = steep_[c] ? n_.compartment[c].v(x[c]) : x[c];
        for (int c = 0; c < count; ++c) {
            const SteppedCompartment& p = n_.compartment[c];
            d[c] = p.rate * (in.sum[c] - (p.leaky + in.rho[c]) * v[c] - x[count + c]);
            d[count + c] = p.adaptation * (p.a * v[c] - x[count + c]);
            if (in.rho[c] != 0) fastest = std::max(fastest, kRough / kSteppedStiff * std::min(p.rate * std::abs(in.rho[c]), kMostPieces / h_));
        }
        for (int e = 0; e < n_.edges; ++e) {
            const SteppedEdge& edge = n_.edge[e];
            const double difference = v[edge.d] - v[edge.c] + edge.offset;
            d[edge.c] += edge.into_c * difference, d[edge.d] -= edge.into_d * difference;
        }
        for (int c = 0; c < count; ++c) {
            const SteppedCompartment& p = n_.compartment[c];
            if (!free_[c]) {
                d[c] = 0;
            } else if (steep_[c]) {
                fastest = std::max(fastest, std::abs(d[c]) / p.slope);
                d[c] = -x[c] * d[c] / p.slope - p.rate;
            } else if (p.slope > 0) {
                const double e = p.rate * std::exp(std::min((v[c] - p.exponential) / p.slope, 300.0));
                fastest = std::max(fastest, e);
                d[c] += p.slope * e;
            }
        }
        return fastest;
    }

    // Runge and Kutta's fourth-order rule over dt, from x to z; k: the derivative at x. whole: the currents at its end.
    double rule(const double* x, const double* k, double dt, double* z, Inputs& whole) {
        const int count = 2 * this->count();
        double a[2 * kMost] = {}, b[2 * kMost] = {}, c[2 * kMost] = {}, at[2 * kMost] = {};
        Inputs half;
        current_at(0.5 * dt, half), current_at(dt, whole);
        for (int j = 0; j < count; ++j) at[j] = x[j] + 0.5 * dt * k[j];
        double fastest = derivative(at, half, a);
        for (int j = 0; j < count; ++j) at[j] = x[j] + 0.5 * dt * a[j];
        fastest = std::max(fastest, derivative(at, half, b));
        for (int j = 0; j < count; ++j) at[j] = x[j] + dt * b[j];
        fastest = std::max(fastest, derivative(at, whole, c));
        for (int j = 0; j < count; ++j) z[j] = x[j] + dt / 6 * (k[j] + 2 * (a[j] + b[j]) + c[j]);
        return fastest;
    }

    // After `rule` over dt.
    void set(const double* z, double dt) {
        const int count = this->count();
        for (int c = 0; c < count; ++c) v[c] = steep_[c] ? n_.compartment[c].v(z[c]) : free_[c] ? z[c] : v[c], w[c] = z[count + c];
        std::copy_n(later_, n_.slots, i);
        now_ += dt;
    }

    // What is integrated of compartment c at its threshold, at `time`.
    double level(int c, double time) const {
        const SteppedCompartment& p = n_.compartment[c];
        const double v = p.threshold + shift[c] - (noise0[c] + (noise1[c] - noise0[c]) * (time / h_));
        return steep_[c] ? p.u(v) : v;
    }

    // Where between 0 and 1 the cubic through (x0, d0), (x1, d1), slopes per unit, first reaches zero from below; 2: nowhere.
    static double first_zero(double x0, double d0, double x1, double d1) {
        if (!(x0 < 0)) return 2;
        const double p2 = -3 * x0 + 3 * x1 - 2 * d0 - d1, p3 = 2 * x0 - 2 * x1 + d0 + d1;
        const auto value = [&](double s) { return ((p3 * s + p2) * s + d0) * s + x0; };
        double high = 1;
        if (x1 < 0) {
            if (!(d0 > 0 && d1 < 0)) return 2;
            const double root = std::sqrt(std::max(p2 * p2 - 3 * p3 * d0, 0.0));
            high = p2 > 0 ? (p2 + root) / (-3 * p3) : d0 / (root - p2);  // its maximum
            if (!(high > 0 && high < 1) || value(high) < 0) return 2;
        }
        double low = 0, s = high * x0 / (x0 - std::max(value(high), 0.0));
        for (int k = 0; k < 40 && high - low > 1e-14; ++k) {
            const double f = value(s);
            (f < 0 ? low : high) = s;
            const double next = s - f / ((3 * p3 * s + 2 * p2) * s + d0);
            if (std::abs(next - s) < 1e-14) return std::clamp(next, low, high);
            s = next > low && next < high ? next : 0.5 * (low + high);
        }
        return s;
    }

    bool fires(int c) const { return free_[c] && n_.compartment[c].threshold < kInfinity; }
    // Whether x, as it is integrated, is at the threshold or above it.
    bool over(int c, double x) const { return steep_[c] ? x <= level(c, now_) : x >= level(c, now_); }

    // A compartment that crossed together with the last one, or -1.
    int together() {
        for (int c = 0; c < count(); ++c)
            if (std::exchange(together_[c], false)) return c;
        return -1;
    }

    // Where the neuron was before the first of several pieces.
    struct Place {
        bool kept = false;
        double v[kMost], w[kMost], i[kMaxSlots], now, peak, peak_at;
    };
    void keep(Place& place) const {
        std::copy_n(v, count(), place.v), std::copy_n(w, count(), place.w), std::copy_n(i, n_.slots, place.i);
        place.now = now_, place.peak = peak, place.peak_at = peak_at, place.kept = true;
    }
    void go_back(const Place& place) {
        if (!place.kept) return;
        std::copy_n(place.v, count(), v), std::copy_n(place.w, count(), w), std::copy_n(place.i, n_.slots, i);
        now_ = place.now, peak = place.peak, peak_at = place.peak_at;
        std::fill_n(together_, count(), false);
    }

    // To `until`, or to the first crossing on the way: the compartment that crosses, or -1. When it crosses does not depend, to the
    // last bit, on what ends the way: it is found on that to `horizon`, where nothing that is yet to come ends it.
    int go(double until, double horizon) {
        set_free();
        if (until == horizon || !crosses) return advance(until);
        Place before;
        const int first = advance(until, &before);
        return first < 0 ? first : cross(first, until, horizon, before);
    }
    __attribute__((noinline)) int cross(int first, double until, double horizon, Place& before) {
        go_back(before), keep(before);
        if (const int c = advance(horizon); c >= 0 && now_ <= until) return c;
        go_back(before);
        return cross_at(until, first);
    }
    // Compartment `first` crosses when `until` comes: later than that by as much as rounding does.
    int cross_at(double until, int first) {
        bool below[kMost];
        for (int c = 0; c < count(); ++c) below[c] = c != first && fires(c) && !beyond(c);
        crosses = false, advance(until), crosses = true;
        for (int c = 0; c < count(); ++c) together_[c] = below[c] && beyond(c);
        return first;
    }
    bool beyond(int c) const { return v[c] + noise(c) >= n_.compartment[c].threshold + shift[c]; }

    // before: to be kept, where a crossing is only to be seen: the neuron stays where the piece with it begins.
    int advance(double until, Place* before = nullptr) {
        const int count = this->count();
        Inputs whole;
        for (double dt = until - now_; now_ < until; dt = until - now_) {
            double x[2 * kMost], k[2 * kMost], z[2 * kMost], l[2 * kMost];
            for (int pieces = 0;; ++pieces, dt *= 0.5) {
                for (int c = 0; c < count; ++c) {
                    const SteppedCompartment& p = n_.compartment[c];
                    steep_[c] = free_[c] && p.slope > 0 && p.rate * dt * std::exp(std::min((v[c] - p.exponential) / p.slope, 300.0)) > kSteep;
                }
                pack(x);
                const double fastest = piece(x, k, dt, z, whole);
                if (fastest * dt < kRough || pieces == 30) break;
            }
            derivative(z, whole, l);
            int first = -1;
            double when = 2;
            for (int c = 0; crosses && c < count; ++c) {
                if (!fires(c)) continue;
                const double before = level(c, now_), after = level(c, now_ + dt), sign = steep_[c] ? -1 : 1;
                const double s = first_zero(sign * (x[c] - before), sign * (k[c] * dt - (after - before)), sign * (z[c] - after),
                                            sign * (l[c] * dt - (after - before)));
                if (s < when) when = s, first = c;
            }
            if (first >= 0 && before) return first;
            if (first >= 0) {
                const double part = cut(x, k, first, when * dt, dt, z);
                bool below[kMost];
                for (int c = 0; c < count; ++c) below[c] = c != first && fires(c) && !over(c, x[c]);
                set(z, part);
                for (int c = 0; c < count; ++c) together_[c] = below[c] && over(c, steep_[c] ? n_.compartment[c].u(v[c]) : v[c]);
                if (first == n_.output) see(v[first], 0);
                return first;
            }
            if (!steep_[n_.output]) see_highest(x[n_.output], k[n_.output] * dt, z[n_.output], l[n_.output] * dt, dt);
            const bool arrives = dt >= until - now_;
            if (before && !arrives && !before->kept) keep(*before);
            set(z, dt);
            see(v[n_.output], 0);
            if (arrives) now_ = until;
        }
        return -1;
    }
    double piece(const double* x, double* k, double dt, double* z, Inputs& whole) {
        current_at(0, whole);
        const double fastest = derivative(x, whole, k);
        return std::max(fastest, rule(x, k, dt, z, whole));
    }

    void see(double v, double after) {
        if (v > peak) peak = v, peak_at = now_ + after;
    }
    // The highest of the cubic through both ends of a piece.
    void see_highest(double x0, double d0, double x1, double d1, double dt) {
        see(x0, 0), see(x1, dt);
        if (!(d0 > 0 && d1 < 0)) return;
        const double p2 = -3 * x0 + 3 * x1 - 2 * d0 - d1, p3 = 2 * x0 - 2 * x1 + d0 + d1;
        const double root = std::sqrt(std::max(p2 * p2 - 3 * p3 * d0, 0.0)), s = p2 > 0 ? (p2 + root) / (-3 * p3) : d0 / (root - p2);
        if (s > 0 && s < 1) see(((p3 * s + p2) * s + d0) * s + x0, s * dt);
    }

    // The state at the crossing, which lies near `part`: one step of Newton's rule.
    double cut(const double* x, const double* k, int c, double part, double dt, double* z) {
        double l[2 * kMost];
        Inputs whole;
        for (int round = 0; round < 2; ++round) {
            rule(x, k, part, z, whole);
            derivative(z, whole, l);
            const double drift = (level(c, now_ + dt) - level(c, now_)) / dt, rate = l[c] - drift;
            const double better = part - (z[c] - level(c, now_ + part)) / rate;
            if (!(better > 0 && better <= dt) || std::abs(better - part) > 0.1 * dt || std::abs(better - part) < 1e-12 * dt) return part;
            part = better;
        }
        rule(x, k, part, z, whole);
        return part;
    }

    const SteppedUnit& n_;
    double h_, now_ = 0;
    double later_[kMaxSlots];  // I at the end of the last piece that was tried
    bool free_[kMost], steep_[kMost] = {}, together_[kMost] = {};
};

}  // namespace spikeloop
