// A population as the vector kernel takes it: what a step of h needs of every neuron, and the state of one sample.
#pragma once
#include <array>

#include "stepped_cell.hpp"

namespace spikeloop {

inline constexpr double kSteppedRough = 0.4;  // of an e-fold of the exponential term within a step

// Coefficients of 1, x, x^2, x^3 of the cubic through values at 0, 1/4, 3/4 and 1.
inline std::array<double, 4> stepped_cubic(double f0, double f1, double f2, double f3) {
    const double a = (f1 - f0) * 4, b = (f2 - f1) * 2, c = (f3 - f2) * 4;  // divided differences
    const double ab = (b - a) / 0.75, bc = (c - b) / 0.75, abc = bc - ab;
    return {f0, a - ab / 4 + abc * 0.1875, ab - abc, abc};
}

// Neurons come in blocks of four vectors; arrays are padded to whole blocks.
template <class T>
inline constexpr int kSteppedBlock = 256 / int(sizeof(T));

template <class T>
struct SteppedLayer {
    const SteppedPopulation<T>& population;
    const SteppedCells& cells;
    int64_t size, padded;
    int compartments, slots = 0, edges = 0;
    bool exponential = false, adaptation = false, conductance = false, limits = false, noisy = false;
    std::vector<SteppedCompartment> compartment;  // (N, C), of `unit`
    std::vector<SteppedSlot> slot;                // (N, slots)
    std::vector<SteppedEdge> edge;                // (N, edges)
    std::vector<SteppedUnit> unit;
    std::vector<std::array<int, 2>> slot_of;      // compartment, receptor of each slot
    std::vector<int> slot_at;                     // (K, C): which slot, or -1
    // (C, padded) each; h / tau_mem where the exponential term acts; that times slope_factor
    std::vector<T> alpha, rising, scale, inverse, exponent, adapting, a, threshold;
    std::vector<T> leaky;                         // (C,)
    std::vector<T> half, rho, most, low;          // (slots, padded) and, `low`, (C, padded)
    std::vector<T> end, mean, moment;             // (slots, 4 or 3, padded): polynomials of what an arrival brings
    std::vector<T> into_c, into_d, offset;        // (edges, padded)
    std::vector<double> rms, decay, kick, spread; // (C, padded), of the membrane's noise over a step
    // Where everything is linear and nothing is held, the rule as matrices: of v, of I, of a constant input, of one that goes from -1
    // to 1, (C x C or C x slots, padded); of differences of leaks, (C, padded). Empty elsewhere.
    std::vector<T> by_v, by_i, by_input, by_turn, by_leak;
    std::vector<uint8_t> watched;                 // (C,): may it cross, or is its peak asked for
    std::vector<uint8_t> conducting;              // (C,): has it a conductance that anything reaches
    std::vector<int> currents;                    // (C,): which of the population's currents, or -1

    SteppedLayer(const SteppedPopulation<T>& population, double h, const std::vector<uint8_t>& used, bool whole);
    bool linear() const { return compartments > 1 && !exponential && !adaptation && !conductance; }

  private:
    void make_linear(double h);
};

// One sample of a population on its way.
template <class T>
struct SteppedWay {
    std::vector<T> v, w, i, level, j, jump;        // (C, padded), i: (slots, padded), jump: (C, 2, padded): moments of jumps of J
    std::vector<T> arriving, raising;              // (slots, 4, padded): sums of weight x^k; (slots, padded): of positive ones
    std::vector<uint8_t> touched, jumped;          // (slots,), (C,)
    std::vector<double> free, shift, noise, after;  // (C, padded)
    std::vector<T> open;                           // (C, padded), 0: held
    std::vector<double> soonest;                   // by vector of T: when the first of its compartments is released, or infinity
    std::vector<int64_t> fired;                    // (C, padded)
    std::vector<uint64_t> stream;                  // (C, padded), of its random numbers
    std::vector<size_t> next_current, next_sample;
    std::vector<T> peak;                           // (padded,) of the output compartment, where it is asked for
    std::vector<double> peak_time;
};

}  // namespace spikeloop
