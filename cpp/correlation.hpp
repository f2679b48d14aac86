// Correlation sensors of synapses: nearest neighbours, exponential windows, saturation.
#pragma once
#include <cstdint>

namespace spikeloop {

// Arrivals at rows or spikes of targets, ascending in time.
struct Moments {
    const double* time;
    const int32_t* unit;
    int64_t count;
};

// Which synapses belong to each row or target: synapse[begin[u]] .. synapse[begin[u + 1]].
struct Groups {
    const int64_t *begin, *synapse;
    int64_t count;
};

// One kind of sensor: what each of the synapses has gained, the size of a pair without delay and the window's 1 / tau.
struct Gains {
    double* value;
    const double *amplitude, *rate;  // one number, or one per synapse
    bool each;
};

// The synapses of one projection in one sample. Moments that lie before all neighbours are -infinity.
struct Sensors {
    Groups rows, targets;
    const int32_t* target;  // of each synapse
    double *arrival;        // the latest, of each synapse
    double *spike;          // the latest, of each target
    Gains causal, anticausal;
    double full;  // where the sensors saturate
};

// Lets arrivals and spikes pass in order of time; of equal times the arrivals come first.
void correlate(const Sensors& sensors, const Moments& arrivals, const Moments& spikes);

}  // namespace spikeloop
