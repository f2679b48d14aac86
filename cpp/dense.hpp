// Feed-forward populations with dense projections, whole weight rows at a time.
#pragma once
#include "stage.hpp"

namespace spikeloop {

template <class T>
struct DenseSource {
    Trains trains;
    int64_t size = 0;         // presynaptic units
    const T* weight = nullptr;  // (size, neurons)
    const double* delay = nullptr;
    bool delay_per_unit = false;
    double arrival(int64_t event) const { return trains.time[event] + delay[delay_per_unit ? trains.unit[event] : 0]; }
};

// What one presynaptic event does: at `time`, row `unit` of source `source` is added to the currents.
struct Arrival {
    double time;
    int32_t source, unit;
    int64_t event;
};

// Arrivals of one sample within [0, duration), in order of time.
template <class T>
void gather_arrivals(const std::vector<DenseSource<T>>& sources, int64_t sample, double duration, std::vector<Arrival>& out) {
    out.clear();
    for (size_t s = 0; s < sources.size(); ++s) {
        const Trains& trains = sources[s].trains;
        for (int64_t e = trains.start[sample]; e < trains.start[sample + 1]; ++e) {
            const double time = sources[s].arrival(e);
            if (time >= 0 && time < duration) out.push_back({time, int32_t(s), trains.unit[e], e});
        }
    }
    const auto before = [](const Arrival& x, const Arrival& y) { return x.time < y.time; };
    if (!std::is_sorted(out.begin(), out.end(), before)) std::stable_sort(out.begin(), out.end(), before);
}

template <class T>
SpikesPerSample dense_forward(const std::vector<DenseSource<T>>& sources, const Neurons& neurons, const Request& request);

template <class T>
struct DenseGradient {
    std::vector<T*> weight;      // per source (size, neurons), added to; null where not wanted
    std::vector<double*> time;   // per source (events,): dL/d arrival time of each event; null where not wanted
    std::vector<NeuronGradient> neuron;
    SlopeFloor slope{0};
};

template <class T>
void dense_adjoint(const std::vector<DenseSource<T>>& sources, const Neurons& neurons, const Backward& request,
                   DenseGradient<T>& gradient);

}  // namespace spikeloop
