// Steps of training: forward through dense stages, a loss, back, Adam.
#pragma once
#include <optional>
#include <variant>

#include "adam.hpp"
#include "dense.hpp"
#include "losses.hpp"
#include "spikes.hpp"

namespace spikeloop {

// One population: what it listens to, which of its neurons may not spike, and by source what dL/dweight is added to, if anything is.
template <class T>
struct DescentStage {
    std::vector<DenseSource<T>> sources;
    Neurons neurons;
    const uint8_t* silent = nullptr;  // (samples, neurons)
    std::vector<T*> gradient;
};

// The mean of `cross_entropies` of the readout's highest membranes.
struct PeaksLoss {
    double scale;
};

// How weights take their steps: by the rate of each, and of which arrays; their gradients are those of the stages, zeros before and after.
template <class T>
struct Learning {
    Adam adam;
    const double* rate;
    std::vector<Moments<T>> arrays;
};

// Samples, batches of `size` of them, one after the other, with a step after each; or only one batch, whose gradients wait, where nobody
// learns or its spikes are to be told.
template <class T>
struct Descent {
    std::vector<DescentStage<T>> stages;
    int64_t samples, size;
    double duration;
    int64_t spike_limit;  // per neuron and sample
    std::variant<PeaksLoss, FirstSpikeLoss> loss;
    int64_t readout;       // the stage that answers
    const int64_t* label;  // (samples,)
    double slope_floor;
    bool tell;
    int threads;
    std::optional<Learning<T>> learning;
    int64_t units() const { return stages[readout].neurons.size; }
};

// What a step tells: its loss, how many answers are right, and how many spikes neurons sent.
struct Told {
    double loss = 0;
    int64_t right = 0, spikes = 0;
};

struct Descended {
    std::vector<Told> told;  // of each step
    SlopeFloor slope{0};
    bool waits = false;           // whether the last one's gradients do
    std::vector<Spikes> spikes;   // of the last one, by stage, where they are to be told or a label's unit is silent
    std::vector<uint8_t> silent;  // (batch,): whether it is; empty where none is
};

// No further than a batch that fails, unless it is the first one: a label that names no unit, weights that are no numbers, an
// explosion; and than one with a label whose unit is silent, whose gradients wait.
template <class T>
Descended descend(const Descent<T>& down);

}  // namespace spikeloop
