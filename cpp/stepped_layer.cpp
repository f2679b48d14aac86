// What a step needs of every neuron, computed once per call.
#include "stepped_layer.hpp"

namespace spikeloop {
namespace {

// An arrival of weight 1, the share x of a step before its end: I at the end, its mean over the step, and its first moment.
struct Kick {
    double end, mean, moment;
    Kick(double beta, double x) {
        end = std::exp(-beta * x);
        if (beta * x < 1e-2) {
            const double y = beta * x;
            mean = x * (1 - y / 2 * (1 - y / 3 * (1 - y / 4 * (1 - y / 5))));
            moment = x * x * (0.5 - y / 6 * (1 - y / 4 * (1 - y / 5)));
        } else {
            mean = -std::expm1(-beta * x) / beta, moment = (x - mean) / beta;
        }
    }
};

SteppedCompartment compartment_of(const SteppedCells& x, int c, int64_t m, bool whole) {
    const auto value = [&](CellField f) { return x.value(f, c, m); };
    const double leak = value(kLeak), slope = value(kSlopeFactor);
    SteppedCompartment p{1 / value(kTauMem), double(x.leaky[c]), value(kThreshold) - leak, value(kReset) - leak, value(kRefractory), slope,
                         slope > 0 ? value(kExponentialThreshold) - leak : 0.0, 0.0, 0.0, value(kA), value(kB), -kInfinity, 0.0, 0.0};
    if (slope > 0) p.rise = std::max(p.u(p.threshold), 1e-280);
    if (value(kTauAdaptation) > 0 && (whole || p.a != 0 || p.b != 0)) p.adaptation = 1 / value(kTauAdaptation);
    if (x.floor) p.floor = x.floor[c * x.size + m] - leak;
    if (x.noise) p.noise = x.noise[c * x.size + m];
    if (x.threshold_noise) p.threshold_noise = x.threshold_noise[c * x.size + m];
    return p;
}

}  // namespace

template <class T>
SteppedLayer<T>::SteppedLayer(const SteppedPopulation<T>& population, double h, const std::vector<uint8_t>& used, bool whole)
    : population(population), cells(population.cells), size(cells.size), compartments(cells.compartments), edges(cells.couplings) {
    constexpr int64_t kLanes = 64 / sizeof(T);
    padded = (size + kSteppedBlock<T> - 1) / kSteppedBlock<T> * kSteppedBlock<T>;
    if (padded / kLanes % 2 == 0) padded += kLanes;  // rows a power of two apart would share few lines of the cache
    slot_at.assign(cells.receptors * compartments, -1);
    for (int r = 0; r < cells.receptors; ++r)
        for (int c = 0; c < compartments; ++c)
            if (used[r * compartments + c]) slot_at[r * compartments + c] = slots++, slot_of.push_back({c, r});
    const int64_t per_compartment = compartments * padded;
    for (auto* each : {&alpha, &rising, &scale, &inverse, &exponent, &adapting, &a}) each->assign(per_compartment, T(0));
    threshold.assign(per_compartment, std::numeric_limits<T>::infinity()), low.assign(per_compartment, -std::numeric_limits<T>::infinity());
    for (auto* each : {&half, &rho}) each->assign(slots * padded, T(0));
    most.assign(slots * padded, std::numeric_limits<T>::infinity());
    end.assign(4 * slots * padded, T(0)), mean.assign(3 * slots * padded, T(0)), moment.assign(3 * slots * padded, T(0));
    for (auto* each : {&into_c, &into_d, &offset}) each->assign(edges * padded, T(0));
    if (cells.noise) {
        for (auto* each : {&rms, &decay, &kick, &spread}) each->assign(per_compartment, 0.0);
    }
    conducting.assign(compartments, 0), leaky.assign(cells.leaky, cells.leaky + compartments), currents.assign(compartments, -1);
    for (size_t k = 0; k < population.currents.size(); ++k) currents[population.currents[k].compartment] = int(k);
    for (int64_t m = 0; m < size; ++m) {
        for (int c = 0; c < compartments; ++c) {
            const SteppedCompartment& p = compartment.emplace_back(compartment_of(cells, c, m, whole));
            const int64_t l = c * padded + m;
            alpha[l] = T(h * p.rate), threshold[l] = T(p.threshold), low[l] = T(p.floor);
            if (p.slope > 0) rising[l] = T(h * p.rate), scale[l] = T(p.slope), inverse[l] = T(1 / p.slope), exponent[l] = T(p.exponential / p.slope);
            adapting[l] = T(h * p.adaptation), a[l] = T(p.a);
            if (p.noise > 0) {
                rms[l] = p.noise, decay[l] = std::exp(-h * p.rate), kick[l] = p.noise * std::sqrt(-std::expm1(-2 * h * p.rate));
                spread[l] = 2 * p.noise * p.noise * p.rate * h;
            }
            exponential |= p.slope > 0, adaptation |= p.adaptation > 0, limits |= std::isfinite(p.floor), noisy |= p.noise > 0;
        }
        for (int s = 0; s < slots; ++s) {
            const auto [c, r] = slot_of[s];
            const int64_t at = (r * compartments + c) * size + m, l = s * padded + m;
            const double rate = 1 / cells.tau_syn[at], beta = rate * h, reversal = cells.reversal[at];
            const SteppedSlot& made = slot.emplace_back(SteppedSlot{c, r, rate, std::isnan(reversal) ? 0.0 : 1 / (reversal - cells.value(kLeak, c, m)),
                                                                   cells.most ? cells.most[c * size + m] : kInfinity});
            half[l] = T(std::exp(-beta / 2)), rho[l] = T(made.rho), most[l] = T(made.most);
            conductance |= made.rho != 0, conducting[c] |= made.rho != 0, limits |= std::isfinite(made.most);
            const Kick k0(beta, 0), k1(beta, 0.25), k2(beta, 0.75), k3(beta, 1);
            const auto e = stepped_cubic(k0.end, k1.end, k2.end, k3.end), f = stepped_cubic(k0.mean, k1.mean, k2.mean, k3.mean);
            const auto g = stepped_cubic(k0.moment, k1.moment, k2.moment, k3.moment);
            for (int k = 0; k < 4; ++k) end[(4 * s + k) * padded + m] = T(e[k]);
            for (int k = 0; k < 3; ++k) mean[(3 * s + k) * padded + m] = T(f[k + 1]), moment[(3 * s + k) * padded + m] = T(g[k + 1]);
        }
        for (int k = 0; k < edges; ++k) {
            const int c = cells.coupled[2 * k], d = cells.coupled[2 * k + 1];
            const double g = 1 / cells.coupling[k * size + m];
            const SteppedEdge& made = edge.emplace_back(SteppedEdge{c, d, g / cells.value(kCapacitance, c, m), g / cells.value(kCapacitance, d, m),
                                                                   cells.value(kLeak, d, m) - cells.value(kLeak, c, m)});
            into_c[k * padded + m] = T(h * made.into_c), into_d[k * padded + m] = T(h * made.into_d), offset[k * padded + m] = T(made.offset);
        }
    }
    watched.assign(compartments, 0);
    for (int c = 0; c < compartments; ++c) {
        watched[c] = population.peaks.value && c == cells.output;
        for (int64_t m = 0; m < size; ++m) watched[c] |= threshold[c * padded + m] < std::numeric_limits<T>::infinity();
    }
    if (linear() && !whole) make_linear(h);
    for (int64_t m = 0; m < size; ++m)
        unit.push_back({compartment.data() + m * compartments, slot.data() + m * slots, edge.data() + m * edges, compartments, slots, edges, cells.output});
}

namespace {

// Runge and Kutta's rule for a neuron without anything nonlinear: v after a step from v, with currents at its beginning, middle, end.
struct LinearStep {
    const SteppedCompartment* compartment;
    const SteppedEdge* edge;
    int count, edges;
    double h;

    void slope(const double* v, const double* current, bool leaks, double* d) const {
        for (int c = 0; c < count; ++c) d[c] = h * compartment[c].rate * (current[c] - compartment[c].leaky * v[c]);
        for (int e = 0; e < edges; ++e) {
            const double difference = v[edge[e].d] - v[edge[e].c] + (leaks ? edge[e].offset : 0.0);
            d[edge[e].c] += h * edge[e].into_c * difference, d[edge[e].d] -= h * edge[e].into_d * difference;
        }
    }
    void operator()(const double* v, const double (*current)[kMaxCompartments], bool leaks, double* out) const {
        constexpr double share[4] = {0.5, 0.5, 1, 0}, weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
        constexpr int when[4] = {0, 1, 1, 2};
        double at[kMaxCompartments], d[kMaxCompartments];
        std::copy_n(v, count, at), std::copy_n(v, count, out);
        for (int k = 0; k < 4; ++k) {
            slope(at, current[when[k]], leaks, d);
            for (int c = 0; c < count; ++c) out[c] += weight[k] * d[c], at[c] = v[c] + share[k] * d[c];
        }
    }
};

}  // namespace

template <class T>
void SteppedLayer<T>::make_linear(double h) {
    const int C = compartments;
    by_v.assign(C * C * padded, T(0)), by_input = by_turn = by_v, by_i.assign(C * slots * padded, T(0)), by_leak.assign(C * padded, T(0));
    for (int64_t m = 0; m < size; ++m) {
        const LinearStep step{compartment.data() + m * C, edge.data() + m * edges, C, edges, h};
        double out[kMaxCompartments];
        const auto column = [&](std::vector<T>& to, int width, int d, int of_v, int of_current, std::array<double, 3> current, bool leaks) {
            double v[kMaxCompartments] = {}, given[3][kMaxCompartments] = {};
            if (of_v >= 0) v[of_v] = 1;
            for (int k = 0; k < 3 && of_current >= 0; ++k) given[k][of_current] = current[k];
            step(v, given, leaks, out);
            for (int c = 0; c < C; ++c) to[(c * width + d) * padded + m] = T(out[c]);
        };
        for (int d = 0; d < C; ++d) {
            column(by_v, C, d, d, -1, {}, false);
            column(by_input, C, d, -1, d, {1, 1, 1}, false), column(by_turn, C, d, -1, d, {-1, 0, 1}, false);
        }
        for (int s = 0; s < slots; ++s) {
            const double half = std::exp(-slot[m * slots + s].rate * h / 2);
            column(by_i, slots, s, -1, slot_of[s][0], {1, half, half * half}, false);
        }
        column(by_leak, 1, 0, -1, -1, {}, true);
    }
}

template struct SteppedLayer<float>;
template struct SteppedLayer<double>;

}  // namespace spikeloop
