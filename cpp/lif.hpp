// One current-based leaky integrate-and-fire neuron: flow, crossing and jump, each beside its adjoint.
//
//   tau_mem V' = (leak - V) + I,   tau_syn I' = -I,   V = threshold from below: spike, V held at reset for `refractory`.
//
// The state is v = V - leak and I (not the two exponential modes, which lose their digits where tau_mem is near tau_syn).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace spikeloop {

inline constexpr double kRounding = 2e-15;  // of a potential, relative to the terms it is the sum of
inline constexpr double kMargin = 1e-6;      // relative slack of a bound: it must not fail for rounding
inline constexpr double kNothing = 1e-290;  // what is left of a current after so many time constants says nothing any more
inline constexpr double kUnsure = 1e-13;     // so close to the threshold, relative to these terms, the crossing itself decides
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Neuron {
    double a, b;              // 1 / tau_mem, 1 / tau_syn
    double threshold, reset;  // relative to leak
    double refractory;
    bool rises_to_threshold() const { return threshold <= 0; }  // leak at or above threshold: fires without input
    double initial() const { return rises_to_threshold() ? reset : 0.0; }
    bool operator==(const Neuron&) const = default;
};

// ---- flow: v <- v em + I g, I <- I es ---------------------------------------------------------------------------

struct Flow {
    double em, es, g;
};

// (1 - exp(-x)) / x for 0 <= x < 1/8, by its series: exact to the last bit or two, and quick.
template <class Real>
inline __attribute__((always_inline)) Real phi_series(const Real& x) {
    constexpr double c[] = {1.0,        -1.0 / 2,     1.0 / 6,      -1.0 / 24,      1.0 / 120,
                            -1.0 / 720, 1.0 / 5040,   -1.0 / 40320, 1.0 / 362880,   -1.0 / 3628800};
    const Real x2 = x * x, x4 = x2 * x2;
    const Real low = (c[0] + c[1] * x) + x2 * (c[2] + c[3] * x), high = (c[4] + c[5] * x) + x2 * (c[6] + c[7] * x);
    return low + x4 * (high + x4 * (c[8] + c[9] * x));
}

inline Flow flow(double dt, double a, double b) {
    const double x = (b - a) * dt, em = std::exp(-a * dt);
    if (std::abs(x) < 0.125) {  // near tau_mem = tau_syn, or a short time: the difference of the modes loses digits
        const double slow = x >= 0 ? em : std::exp(-b * dt), y = std::abs(x), p = phi_series(y);
        const double fast = slow * (1.0 - y * p);
        return x >= 0 ? Flow{em, fast, em * a * dt * p} : Flow{fast, slow, slow * a * dt * p};
    }
    const double es = std::exp(-b * dt);
    return {em, es, a * (em - es) / (b - a)};
}

// b / a where it is, but for rounding, a whole number up to 4; else 0.
inline int whole_ratio(double a, double b) {
    const double ratio = std::round(b / a);
    return ratio >= 1 && ratio <= 4 && std::abs(b - ratio * a) <= 4e-16 * b ? int(ratio) : 0;
}

// Time at which the response to one arrival peaks, and its height for a weight of 1.
inline double response_peak_time(double a, double b) {
    const double r = (b - a) / a;
    return std::abs(r) < 1e-8 ? (1.0 - 0.5 * r) / a : std::log1p(r) / (b - a);
}
inline double response_peak(double a, double b) { return flow(response_peak_time(a, b), a, b).g; }

// The only stationary point of V after now, or infinity.
inline double stationary(double v, double i, double a, double b) {
    if (i == 0) return kInfinity;
    const double u = (i - v) / (i * b), d = b - a, x = d * u;
    if (!(x < 1.0)) return kInfinity;
    const double t = std::abs(x) < 1e-14 ? u : -std::log1p(-x) / d;
    return t > 0 ? t : kInfinity;
}

struct Maximum {
    double time, value;  // value relative to leak
};

// Maximum of v over [from, dt] of an undisturbed neuron.
inline Maximum maximum(double v, double i, double from, double dt, double a, double b) {
    const auto at = [&](double t) {
        const Flow f = flow(t, a, b);
        return Maximum{t, v * f.em + i * f.g};
    };
    Maximum best = from > 0 ? at(from) : Maximum{0.0, v};
    const auto look = [&](double t) {
        if (const Maximum other = at(t); other.value > best.value) best = other;
    };
    if (i > v) look(std::clamp(stationary(v, i, a, b), from, dt));  // rising now: the stationary point, if any, or the end
    if (v < 0) look(dt);                                           // may fall first and rise again towards leak
    return best;
}
inline Maximum maximum(double v, double i, double dt, double a, double b) { return maximum(v, i, 0.0, dt, a, b); }

// ---- crossing ---------------------------------------------------------------------------------------------------

// Where a neuron crosses does not depend on how far ahead anyone looks: a run that is cut and continued finds the same.

// Root of v(t) = threshold on the branch that rises from `lo` on and reaches it, before `hi` or while v rises: Newton kept
// inside the bracket, started from the parabola through v, v' and v'' at 0.
inline double solve_crossing(const Neuron& n, double v, double i, double lo, double hi = kInfinity) {
    const double slope = n.a * (i - v), bend = -n.a * (n.b * i + slope), rest = n.threshold - v;
    double t = 2 * rest / (slope + std::sqrt(std::max(slope * slope + 2 * bend * rest, 0.0)));
    if (!(t > lo && t < hi)) t = 0.5 * (lo + hi);
    for (int iteration = 0; iteration < 200; ++iteration) {
        const Flow f = flow(t, n.a, n.b);
        const double now = v * f.em + i * f.g, current = i * f.es, gap = now - n.threshold, rise = n.a * (current - now);
        const bool falls = rise <= 0 && !n.rises_to_threshold();  // the root lies before
        if (gap == 0 && !falls) return t;
        (gap > 0 || falls ? hi : lo) = t;
        const double step = -gap / rise;
        if (falls || !(t + step >= lo && t + step <= hi)) {
            t = 0.5 * (lo + hi);
            if (hi - lo <= 1e-16 * hi) break;
            continue;
        }
        t += step;
        // Newton leaves an error of v''/(2 v') step^2: done once that is below the last digit of t
        if (n.a * std::abs(n.b * current + rise) * step * step <= 1e-17 * std::abs(rise) * t) break;
    }
    return t;
}

// The same where leak is at or above the threshold, v rises from `turn` on, and has reached the threshold by `dt`, or not by
// more than rounding: negative where it has not.
inline double solve_rise(const Neuron& n, double v, double i, double turn, double dt) {
    for (double ahead = 1.0 / n.a;; ahead *= 2) {
        const Flow f = flow(turn + ahead, n.a, n.b);
        if (v * f.em + i * f.g >= n.threshold) return solve_crossing(n, v, i, turn, turn + ahead);
        if (turn + ahead >= dt) return -1.0;
    }
}

// A stretch of time: v and i at its end if the neuron goes through undisturbed, and when it crosses: in `wait`, which
// rounding may put after the end; negative if it does not.
struct Stretch {
    double wait, v, i;
};

// Follow a neuron from now for dt: when v reaches the threshold from below.
inline Stretch follow(const Neuron& n, double v, double i, double dt) {
    const Flow f = flow(dt, n.a, n.b);
    const double kept = v * f.em, come = i * f.g, end_v = kept + come, end_i = i * f.es;
    const double unsure = kUnsure * (std::abs(kept) + std::abs(come));
    const auto crosses = [&](double wait) { return Stretch{wait, end_v, end_i}; };
    const Stretch none = crosses(-1.0);
    if (n.rises_to_threshold()) {
        if (v >= n.threshold && i > v) return crosses(0.0);  // rounding put it at the threshold already
        const double turn = i < v ? stationary(v, i, n.a, n.b) : 0.0;  // falls first: look after the minimum
        if (turn >= dt || end_v < n.threshold - unsure) return none;
        return crosses(solve_rise(n, v, i, turn, dt));
    }
    if (!(i > v) || !(i > 0)) return none;  // not rising
    if (v >= n.threshold) return crosses(0.0);
    if (end_v >= n.threshold + unsure) return crosses(solve_crossing(n, v, i, 0.0));
    const bool below = end_v < n.threshold - unsure;
    if ((below && end_i >= end_v && end_i > kNothing) || std::max(v, 0.0) + i * n.a * dt < n.threshold) return none;  // rises to the end, or never enough
    const double top = stationary(v, i, n.a, n.b);
    if (top == kInfinity || (below && !(top < dt))) return none;
    const Flow highest = flow(top, n.a, n.b);
    const double decayed = v * highest.em, brought = i * highest.g;  // a peak at the threshold, but for rounding, is none
    if (decayed + brought <= n.threshold + kRounding * (std::abs(decayed) + brought)) return none;
    return crosses(solve_crossing(n, v, i, 0.0));
}

// First time in [0, dt] at which v reaches the threshold from below, or a negative number.
inline double first_crossing(const Neuron& n, double v, double i, double dt) {
    const double wait = follow(n, v, i, dt).wait;
    return wait <= dt ? wait : -1.0;
}

// ---- a stretch of time without arrivals -------------------------------------------------------------------------

struct State {
    double v, i;
    double free = 0;  // V is held at reset until then
};

// Bring a neuron from time t0 to t1; `spike(time)` is told of every spike and returns false to give up.
template <class OnSpike>
inline void advance(const Neuron& n, State& s, double t0, double t1, bool spiking, OnSpike&& spike) {
    double t = t0;
    while (t < t1) {
        if (s.free > t) {
            const double until = std::min(s.free, t1);
            s.i *= std::exp(-n.b * (until - t));
            t = until;
            continue;
        }
        if (!spiking) {
            const Flow f = flow(t1 - t, n.a, n.b);
            s.v = s.v * f.em + s.i * f.g;
            s.i *= f.es;
            return;
        }
        const Stretch stretch = follow(n, s.v, s.i, t1 - t);
        if (stretch.wait < 0 || t + stretch.wait > t1) {
            s.v = stretch.v, s.i = stretch.i;
            return;
        }
        t += stretch.wait;
        s.i *= std::exp(-n.b * stretch.wait);
        s.v = n.reset;
        s.free = t + n.refractory;
        if (!spike(t)) return;
    }
}

// Does a sample at `time` belong to an interval that ends at `end`? v does not jump at arrivals, and rounding may put a
// multiple of a sampling period a little after one.
inline bool within(double time, double end) { return time <= end * (1 + 1e-15); }

// v at time t of a neuron whose state was `s` at t0; spikes in between, `most` of them after `told`, are taken into account,
// also one that only rounding puts after t.
inline double membrane_at(const Neuron& n, State s, double t0, double t, int64_t most, double told = -kInfinity) {
    State last = s;
    double from = t0;
    if (most > 0)
        advance(n, s, t0, t * (1 + 1e-15), true, [&](double time) {
            if (time > told && --most < 0) return false;
            last = s, from = time;
            return true;
        });
    advance(n, last, from, t, false, [](double) { return true; });
    return last.v;
}

// Keep the highest value of v over [t0, t1], or what is after `since` of it, in which the neuron does not spike.
inline void raise_peak(const Neuron& n, const State& s, double t0, double t1, Maximum& peak, double since = -kInfinity) {
    double t = t0, i = s.i;
    if (s.free > t0) {
        t = std::min(s.free, t1);
        if (s.v > peak.value && t >= since) peak = {std::max(t0, since), s.v};
        i *= std::exp(-n.b * (t - t0));
    }
    if (t >= t1 && t > t0) return;
    const Maximum m = maximum(s.v, i, std::max(since - t, 0.0), t1 - t, n.a, n.b);
    if (m.value > peak.value) peak = {t + m.time, m.value};
}

// ---- adjoint ----------------------------------------------------------------------------------------------------
// tau_mem lV' = -lV, tau_syn lI' = -lI + lV in reversed time; dL/dV = -tau_mem lV, dL/dI = -tau_syn lI.

struct NeuronGradient {
    double tau_mem = 0, tau_syn = 0, threshold = 0, leak = 0, reset = 0, refractory = 0;
    NeuronGradient& operator+=(const NeuronGradient& o) {
        tau_mem += o.tau_mem, tau_syn += o.tau_syn, threshold += o.threshold;
        leak += o.leak, reset += o.reset, refractory += o.refractory;
        return *this;
    }
};

// In the place of one that nobody wants: nothing is computed for it.
struct Unwanted {
    struct Nothing {
        void operator+=(double) const {}
        void operator-=(double) const {}
    };
    Nothing tau_mem, tau_syn, threshold, leak, reset, refractory;
};

struct Adjoint {
    double v = 0, i = 0;  // lambda_V, lambda_I
};

// Integrals over one free stretch that the time constants' gradients need.
//   dL/dtau_mem += lV * (I g_m - v0 m + ...) etc., with lV, lI at the stretch's end and v0, I0 at its start:
//   int lV V' dt = lV (I0 c_vi - v0 c_vv),     (1/tau_syn) int lI I dt = I0 (lI c_ii + lV c_iv)
struct StretchIntegrals {
    double vv, vi, ii, iv;
};

// psi(y) = (y - 1 + exp(-y)) / y^2 and chi(y) = (1 - (1 + y) exp(-y)) / y^2 for y >= 0
inline void second_differences(double y, double& psi, double& chi) {
    if (y > 0.5) {
        const double e = std::exp(-y);
        psi = (y - 1 + e) / (y * y);
        chi = (1 - (1 + y) * e) / (y * y);
        return;
    }
    psi = chi = 0;
    double power = 1;  // (-y)^k / k!
    for (int k = 0; k < 14; ++k) {
        psi += power / ((k + 1) * (k + 2));
        chi += power / (k + 2);
        power *= -y / (k + 1);
    }
}

inline StretchIntegrals stretch_integrals(double dt, double a, double b, const Flow& f) {
    const double x = (b - a) * dt;
    double psi, chi;
    second_differences(std::abs(x), psi, chi);
    const double base = std::max(f.em, f.es) * dt * dt;
    const double p = a * base * (x >= 0 ? psi : chi), q = b * base * (x >= 0 ? chi : psi);
    return {a * dt * f.em, f.g - a * p, b * dt * f.es, b * q};
}

template <class Gradient>
inline void time_constants_back(const Adjoint& l, const StretchIntegrals& c, double v0, double i0, Gradient& grad) {
    grad.tau_mem += l.v * (i0 * c.vi - v0 * c.vv);
    grad.tau_syn -= i0 * (l.i * c.ii + l.v * c.iv);
}

inline void flow_back(const Neuron& n, Adjoint& l, const Flow& f) {
    l.i = l.i * f.es + l.v * f.g * (n.b / n.a);
    l.v *= f.em;
}

// Take the adjoint back over a free stretch `dt` of flow `f`; v0 and i0, the state at its beginning, are only read for the
// time constants.
inline void flow_back_free(const Neuron& n, Adjoint& l, double dt, const Flow& f, double v0, double i0, bool want_tau,
                           NeuronGradient& grad) {
    if (dt <= 0) return;
    if (want_tau) time_constants_back(l, stretch_integrals(dt, n.a, n.b, f), v0, i0, grad);
    grad.leak -= l.v * (1.0 - f.em) / n.a;
    flow_back(n, l, f);
}

// The same while V is held: lambda_V is zero, lambda_I decays alone, by `es`.
inline void flow_back_held(const Neuron& n, Adjoint& l, double dt, double es, double i0, NeuronGradient& grad) {
    if (dt <= 0) return;
    grad.tau_syn -= i0 * l.i * n.b * dt * es;
    l.i *= es;
}

// Release at r = t_k + refractory, `i` the current there: returns what it adds to dL/dt_k.
template <class Gradient>
inline double release_back(const Neuron& n, Adjoint& l, double i, Gradient& grad) {
    const double moved = l.v * (i - n.reset);  // tau_mem lV V'(r+)
    grad.reset -= l.v / n.a;
    grad.refractory += moved;
    l.v = 0;
    return moved;
}

struct SlopeFloor {
    double floor;  // least tau_mem V' at a spike that the gradient believes
    long acted = 0, spikes = 0;
};

// Spike at t_k with total derivative dt = dL/dt_k and current i.
template <class Gradient>
inline void spike_back(const Neuron& n, Adjoint& l, double dt, double i, SlopeFloor& slope, Gradient& grad) {
    double rise = i - n.threshold;  // tau_mem V'-
    ++slope.spikes;
    if (!(rise > slope.floor)) {
        ++slope.acted;
        rise = slope.floor;
    }
    l.v = rise > 0 ? dt / rise : 0.0;  // no slope, no floor: the spike passes nothing on
    grad.threshold += l.v / n.a;
}

}  // namespace spikeloop
