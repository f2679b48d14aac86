// The reverse sweep of stepped.hpp: some samples after another forwards through the smoothed model, then backwards.
#include "simd.hpp"
#include "stepped_smooth.hpp"

#define SPIKELOOP_KERNEL "stepped_adjoint.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kParts = 8;  // of a batch, summed in order: results do not depend on threads

// What some samples of a batch are summed into.
template <class T>
struct Part {
    std::vector<std::vector<T>> weight;
    std::vector<SteppedSums<T>> sums;
};

template <class T>
int64_t weights_of(const SteppedLink<T>& link, const std::vector<SteppedPopulation<T>>& populations) {
    if (!link.unit) return link.size * populations[link.target].cells.size;
    int64_t count = link.index ? 0 : link.begin[link.size];
    for (int64_t s = 0; link.index && s < link.begin[link.size]; ++s) count = std::max(count, link.index[s] + 1);
    return count;
}

// From the numbers that a step is made of to those that describe a neuron.
template <class T>
void describe(const SteppedLayer<T>& p, SteppedSums<T>& sums, double h, SteppedGradient& to) {
    const int C = p.compartments;
    const int64_t n = p.padded, size = p.size;
    for (int64_t m = 0; m < size; ++m) {
        const auto value = [&](CellField f, int c) -> double& { return to.values[(f * C + c) * size + m]; };
        for (int c = 0; c < C; ++c) {
            const SteppedCompartment& x = p.compartment[m * C + c];
            const int64_t at = c * n + m;
            value(kTauMem, c) -= double(sums.alpha[at]) * h * x.rate * x.rate;
            value(kTauAdaptation, c) -= double(sums.adapting[at]) * h * x.adaptation * x.adaptation;
            value(kThreshold, c) += double(sums.threshold[at]), value(kReset, c) += double(sums.reset[at]);
            value(kExponentialThreshold, c) += double(sums.exponent[at]);
            value(kRefractory, c) += double(sums.refractory[at]) / h;
            if (x.slope > 0) value(kSlopeFactor, c) += double(sums.scale[at]);
            value(kA, c) += double(sums.a[at]), value(kB, c) += double(sums.b[at]);
            value(kLeak, c) += double(sums.leak[at]) - double(sums.threshold[at]) - double(sums.reset[at]) - double(sums.exponent[at]);
        }
        for (int s = 0; s < p.slots; ++s) {
            const SteppedSlot& slot = p.slot[m * p.slots + s];
            const int64_t at = (int64_t(slot.receptor) * C + slot.compartment) * size + m;
            to.tau_syn[at] -= double(sums.beta[s * n + m]) * h * slot.rate * slot.rate;
            to.reversal[at] -= double(sums.rho[s * n + m]) * slot.rho * slot.rho;
            value(kLeak, slot.compartment) += double(sums.rho[s * n + m]) * slot.rho * slot.rho;
        }
        for (int e = 0; e < p.edges; ++e) {
            const SteppedEdge& edge = p.edge[m * p.edges + e];
            const double c = double(sums.into_c[e * n + m]) * h * edge.into_c, d = double(sums.into_d[e * n + m]) * h * edge.into_d;
            to.coupling[e * size + m] -= (c + d) / p.cells.coupling[e * size + m];
            value(kCapacitance, edge.c) -= c / p.cells.value(kCapacitance, edge.c, m);
            value(kCapacitance, edge.d) -= d / p.cells.value(kCapacitance, edge.d, m);
        }
    }
}

}  // namespace

template <class T>
std::vector<SteppedGradient> stepped_backward(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links,
                                              const std::vector<SteppedPull<T>>& pulls, const std::vector<SteppedPush<T>>& pushes, double beta,
                                              const SteppedRun& run) {
    const SteppedStage<T> stage(populations, links, run, true);
    std::vector<SteppedSlopes<T>> slopes;
    for (const auto& layer : stage.layers) slopes.emplace_back(layer, run.step);
    const int64_t count = std::min(kParts, std::max<int64_t>(run.batch, 1)), each = (run.batch + count - 1) / count;
    std::vector<Part<T>> parts(count);
    parallel_for(count, run.threads, 1, [&](int64_t number, Watch& watch) {
        Part<T>& part = parts[number];
        for (const auto& layer : stage.layers) part.sums.emplace_back(layer);
        std::vector<T*> weight;
        part.weight.resize(links.size());
        for (size_t l = 0; l < links.size(); ++l) {
            if (pushes[l].weight) part.weight[l].assign(weights_of(links[l], populations), T(0));
            weight.push_back(pushes[l].weight ? part.weight[l].data() : nullptr);
        }
        for (int64_t b = number * each; b < std::min((number + 1) * each, run.batch); ++b) {
            std::vector<T*> source;
            for (size_t l = 0; l < links.size(); ++l) source.push_back(pushes[l].source ? pushes[l].source + b * run.steps * links[l].size : nullptr);
            SteppedSmooth<T> all(stage, pulls, slopes, beta, b);
            SPIKELOOP_BEST(smooth_sample(all, weight, source, part.sums, watch));
        }
    });
    std::vector<SteppedGradient> result(populations.size());
    for (size_t p = 0; p < populations.size(); ++p) {
        const SteppedCells& x = populations[p].cells;
        const int64_t row = int64_t(x.compartments) * x.size;
        result[p].values.assign(kCellFields * row, 0.0), result[p].tau_syn.assign(x.receptors * row, 0.0);
        result[p].reversal.assign(x.receptors * row, 0.0), result[p].coupling.assign(x.couplings * x.size, 0.0);
        for (Part<T>& part : parts) describe(stage.layers[p], part.sums[p], run.step, result[p]);
    }
    for (size_t l = 0; l < links.size(); ++l)
        for (Part<T>& part : parts)
            for (size_t k = 0; k < part.weight[l].size(); ++k) pushes[l].weight[k] += part.weight[l][k];
    return result;
}

template std::vector<SteppedGradient> stepped_backward(const std::vector<SteppedPopulation<float>>&, const std::vector<SteppedLink<float>>&,
                                                       const std::vector<SteppedPull<float>>&, const std::vector<SteppedPush<float>>&, double, const SteppedRun&);
template std::vector<SteppedGradient> stepped_backward(const std::vector<SteppedPopulation<double>>&, const std::vector<SteppedLink<double>>&,
                                                       const std::vector<SteppedPull<double>>&, const std::vector<SteppedPush<double>>&, double, const SteppedRun&);

}  // namespace spikeloop
