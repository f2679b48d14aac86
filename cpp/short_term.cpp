#include "short_term.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace spikeloop {

double relaxed(double wait, double tau) { return std::exp(-wait / tau); }

double resource(double before, double used, double decay) {
    const double left = (1 - used) * before, lacking = (1 - left) * decay;
    return 1 - lacking;
}

void meet(const Resources& events, int64_t batch, int64_t units) {
    std::vector<int64_t> latest(units);
    for (int64_t b = 0; b < batch; ++b) {
        std::fill(latest.begin(), latest.end(), -1);
        for (int64_t e = events.start[b]; e < events.start[b + 1]; ++e) {
            const int32_t u = events.unit[e];
            double &first = events.first[b * units + u], &last = events.last[b * units + u];
            events.before[e] = first, events.previous[e] = latest[u], latest[u] = e;
            events.decay[e] = relaxed(events.time[e] - last, events.tau[u]);
            events.x[e] = first = resource(first, events.used[u], events.decay[e]);
            last = events.time[e];
        }
    }
}

}  // namespace spikeloop
