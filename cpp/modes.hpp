// The two modes, exp(-t / tau_syn) and exp(-t / tau_mem), of a neuron between its marks, and of its adjoint.
#pragma once
#include "lif.hpp"

namespace spikeloop {

// Over some time: m and s are the modes' decays; x, what the first brings to the second, is 0 where the modes are apart.
struct Step {
    double m = 1, s = 1, x = 0;
    Step then(const Step& o) const { return {m * o.m, s * o.s, x * o.m + s * o.x}; }
    Step times(int64_t count) const {
        Step all, some = *this;
        for (; count > 0; count /= 2, some = some.then(some))
            if (count % 2) all = all.then(some);
        return all;
    }
};

// The adjoint as Q = k lambda_V and P = lambda_I - mix Q, which a step takes back to P s + Q x and Q m; the state as R = I and
// S = (b / a) v / k + mix I, which a step takes on to R s and S m + R x. Near tau_mem = tau_syn the modes would cancel each
// other; there k is 1, mix is 0, and a step is the flow itself.
struct Modes {
    double a, b, k, mix, back_k, v_of, near;
    double span;  // after which they are referred to another anchor: exp(b t) must not overflow, nor the sum lose its digits
    Step over_span;

    Modes(const Neuron& n, double span) : a(n.a), b(n.b), span(span) {
        constexpr double kNear = 0.05;
        const bool apart = std::abs(b - a) > kNear * std::max(a, b);
        k = apart ? b / (b - a) : 1.0, mix = apart, back_k = 1 / k, v_of = k * a / b, near = (1 - mix) * b / a;
        over_span = step(flow(span, a, b));
    }
    Step step(const Flow& f) const { return {f.em, f.es, near * f.g}; }
    double v(double r, double s) const { return v_of * (s - mix * r); }
};

// What is carried of an adjoint through its modes: relative to an anchor.
struct Pair {
    double p = 0, q = 0;
    void back(const Step& step) { p = p * step.s + q * step.x, q *= step.m; }
};

// An adjoint at a time as modes relative to the anchor that lies `step` before, and back: by its x and one over its m and s.
inline Pair to_anchor(const Modes& modes, const Adjoint& l, const Step& step) {
    const double q = modes.k * l.v;
    Pair pair{l.i - modes.mix * q, q};
    pair.back(step);
    return pair;
}
inline Adjoint from_anchor(const Modes& modes, const Pair& pair, double x, double back_m, double back_s) {
    const double q = pair.q * back_m;
    return {q * modes.back_k, (pair.p - q * x) * back_s + modes.mix * q};
}

}  // namespace spikeloop
