#include "correlation.hpp"

#include <algorithm>
#include <cmath>

namespace spikeloop {
namespace {

void gain(const Gains& gains, int64_t k, double apart, double full) {
    const int64_t at = gains.each ? k : 0;
    gains.value[k] = std::min(full, gains.value[k] + gains.amplitude[at] * std::exp(-apart * gains.rate[at]));
}

void arrive(const Sensors& x, int32_t row, double time) {
    for (int64_t n = x.rows.begin[row]; n < x.rows.begin[row + 1]; ++n) {
        const int64_t k = x.rows.synapse[n];
        const double spike = x.spike[x.target[k]];
        if (spike >= x.arrival[k] && std::isfinite(spike)) gain(x.anticausal, k, time - spike, x.full);
        x.arrival[k] = time;
    }
}

void fire(const Sensors& x, int32_t target, double time) {
    const double before = x.spike[target];
    for (int64_t n = x.targets.begin[target]; n < x.targets.begin[target + 1]; ++n)
        if (const int64_t k = x.targets.synapse[n]; x.arrival[k] > before) gain(x.causal, k, time - x.arrival[k], x.full);
    x.spike[target] = time;
}

}  // namespace

void correlate(const Sensors& sensors, const Moments& arrivals, const Moments& spikes) {
    int64_t a = 0, s = 0;
    while (a < arrivals.count || s < spikes.count) {
        if (a < arrivals.count && (s == spikes.count || arrivals.time[a] <= spikes.time[s])) {
            arrive(sensors, arrivals.unit[a], arrivals.time[a]);
            ++a;
        } else {
            fire(sensors, spikes.unit[s], spikes.time[s]);
            ++s;
        }
    }
}

}  // namespace spikeloop
