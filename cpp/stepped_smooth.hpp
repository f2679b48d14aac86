// The smoothed model that the reverse sweep differentiates, one sample of a stage. Step k, from (v, w, I) at its beginning:
//   u = reset where a spike of the output compartment was observed in the step, else v
//   (v, w, I) <- Runge and Kutta's rule from (u, w, I), dv times the share of the step in which the compartment is not held
//   w <- w + b S,  S = spikes observed, with derivative 1 / (unit (1 + beta |v - threshold| / unit)^2) where v is not held
// The exponential term rises by no more than `kSteppedRough` e-folds in a step. Crossings of other compartments than the output are
// the model's own, at the end of a step, and not differentiated. Arrivals are those of the forward pass; what a step without a
// spike would send is sent in its middle.
#pragma once
#include "stepped_march.hpp"

namespace spikeloop {

// In the step of `kReleased` a compartment is released that a spike or crossing of this run has held.
enum SteppedMark : uint16_t { kAble = 1, kSpiked = 2, kCrossed = 4, kReleased = 8, kOneSpike = 16 };  // from there on: how many

// What is summed over steps and samples for every neuron, (rows, padded) each.
template <class T>
struct SteppedSums {
    std::vector<T> alpha, scale, exponent, adapting, a, b, threshold, reset, leak, refractory;  // (C, padded)
    std::vector<T> rho, beta;                                                                  // (slots, padded)
    std::vector<T> into_c, into_d;                                                             // (edges, padded)
    explicit SteppedSums(const SteppedLayer<T>& p);
    std::vector<std::vector<T>*> all() {
        return {&alpha, &scale, &exponent, &adapting, &a, &b, &threshold, &reset, &leak, &refractory, &rho, &beta, &into_c, &into_d};
    }
};

// d/dbeta of the layer's `half`, `end`, `mean` and `moment`, beta = h / tau_syn; and the units of the surrogate.
template <class T>
struct SteppedSlopes {
    std::vector<T> half, end, mean, moment, cap, reset, b, unit;  // cap: of the exponential's argument, (C, padded) like the rest
    SteppedSlopes(const SteppedLayer<T>& p, double h);
};

// A link whose events draw on resources, of one sample in the sweep: what one more spike of each step is worth by its arrivals
// alone (steps, units), and dL/d(size) of the spikes.
template <class T>
struct SmoothDraws {
    const Drawn& of;
    std::vector<T> felt;
    std::vector<double> by_size, ahead;
    std::vector<int64_t> coming, latest;
    int64_t next = 0;
    SmoothDraws(const Drawn& of, int64_t steps, int64_t sample) : of(of) {
        if (!of) return;
        felt.assign(steps * of.units, T(0)), by_size.assign(of.start[sample + 1] - of.start[sample], 0.0);
        ahead.resize(of.units), coming.resize(of.units), latest.resize(of.units);
        set_out(of, state(), sample);
    }
    DrawnState state() { return {ahead.data(), coming.data(), latest.data(), &next}; }
};

template <class T>
struct SteppedSmooth {
    const SteppedStage<T>& stage;
    const std::vector<SteppedPull<T>>& pulls;
    const std::vector<SteppedSlopes<T>>& slopes;
    double beta;
    SteppedSample<T> sample;
    struct Trail {                       // of one population: by step, then as the sample's way has it
        std::vector<T> v, w, i, open;
        std::vector<uint16_t> mark;
        std::vector<T> lv, lw, li;       // adjoint
        std::vector<T> spike;            // (steps, N): dL/dS
        std::vector<T> pull;             // (steps + 1, C, padded): dL/dv of samples; empty where there is none
        std::vector<double> free;
        std::vector<T> arrival;          // (slots, 4, padded): dL/d of the sums of weight x^k in this step
        size_t next = 0;                 // of the observed spikes
    };
    std::vector<Trail> trails;

    SteppedSmooth(const SteppedStage<T>& stage, const std::vector<SteppedPull<T>>& pulls, const std::vector<SteppedSlopes<T>>& slopes, double beta,
                  int64_t number);
    void seek_currents(int p, int64_t k);
    // Marks and open shares of step k, before it is taken.
    void open(int p, int64_t k);
    // Crossings at its end.
    void cross(int p, int64_t k);
    void gather_pulls(int p);

  private:
    void pull(int p, double time, int64_t m, int c, double value);
};

}  // namespace spikeloop
