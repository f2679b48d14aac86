// Populations with sparse, convolutional or per-synapse-delayed projections, and populations in a loop: one event at a time.
#pragma once
#include "short_term.hpp"
#include "stage.hpp"

namespace spikeloop {

enum class Delay { common, per_unit, per_synapse };

// A projection as rows of synapses, one row per presynaptic unit: row u is begin[u] .. begin[u + 1].
template <class T>
struct QueueSource {
    Trains trains;                  // presynaptic spikes; not read while a population of this stage still makes them
    bool internal = false;          // the presynaptic units are neurons first_source .. of this stage
    int64_t size = 0, first_source = 0, first_target = 0;
    const int64_t* begin = nullptr;   // (size + 1,)
    const int32_t* target = nullptr;  // (synapses,) within the target population
    const int64_t* weight_index = nullptr;  // (synapses,) into weight; null: one weight a synapse, in order
    const T* weight = nullptr;
    int64_t weights = 0;
    const double* delay = nullptr;  // (), (size,) or (synapses,)
    Delay delays = Delay::common;
    Driver driver;  // of an internal source
    int64_t weight_of(int64_t synapse) const { return weight_index ? weight_index[synapse] : synapse; }
    double delay_of(int64_t unit, int64_t synapse) const {
        return delay[delays == Delay::common ? 0 : delays == Delay::per_unit ? unit : synapse];
    }
};

// A population of the stage: neurons first .. first + size of the stage's numbering.
struct QueuePopulation {
    Neurons neurons;
    int64_t first = 0;
    const uint8_t* silent = nullptr;
    StateArrays start, end;
    Anchors from, to;
    Sampling sampling;
    Peaks peaks;
    int64_t slot(int64_t sample, int64_t m) const { return sample * neurons.size + m - first; }  // of neuron m in (batch, size)
    State initial(int64_t sample, int64_t m, const Neuron& neuron, double begin = 0) const {
        return initial_state(neuron, start, neurons.leak[m - first], slot(sample, m), begin);
    }
};

struct QueueRequest {
    int64_t batch = 0, size = 0;  // samples, neurons in all
    double begin = 0, until = 0;  // s
    int64_t spike_limit = 0;
    int threads = 1;
};

// The synapses of each row in order of arrival.
template <class T>
std::vector<int64_t> order_of_arrival(const QueueSource<T>& source);

// Spikes per sample, units in the stage's numbering.
template <class T>
SpikesPerSample queue_forward(const std::vector<QueueSource<T>>& sources, const std::vector<QueuePopulation>& populations,
                              const QueueRequest& request);

template <class T>
struct QueueGradient {
    std::vector<T*> weight;       // per source (weights,), added to; null where not wanted
    std::vector<double*> delay;   // per source, one a synapse, added to; null where not wanted
    std::vector<double*> time;    // per source (events,) of external trains; null where not wanted
    std::vector<NeuronGradient> neuron;
    SlopeFloor slope{0};
};

// What the adjoint is handed of each population: its observed spikes and its cotangents.
struct QueueBackward {
    Trains spikes;
    double* time_cotangent = nullptr;  // (spikes,) dL/dt; arrivals and releases within the stage are added to it
    std::vector<std::vector<MembraneCotangent>> membrane;  // per sample; may be empty
};

struct QueueAdjointRequest {
    int64_t batch = 0, size = 0;
    double begin = 0, duration = 0, slope_floor = 0;
    bool want_tau = false;
    int threads = 1;
};

template <class T>
void queue_adjoint(const std::vector<QueueSource<T>>& sources, const std::vector<QueuePopulation>& populations,
                   const std::vector<QueueBackward>& cotangents, const QueueAdjointRequest& request, QueueGradient<T>& gradient);

}  // namespace spikeloop
