#include "short_term.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
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

void set_out(const Drawn& of, const DrawnState& state, int64_t sample) {
    std::fill_n(state.ahead, of.units, 0.0), std::fill_n(state.coming, of.units, -1), std::fill_n(state.latest, of.units, -1);
    *state.next = of.start[sample + 1];
    const int64_t none = std::numeric_limits<int64_t>::min();
    for (int64_t e = of.start[sample]; e < of.start[sample + 1]; ++e)
        if (of.step[e] != none) state.latest[of.unit[e]] = e;
}

template <class T>
void draw_back(const Drawn& of, const DrawnState& state, int64_t sample, int64_t step, double middle, const double* by_size, T* felt) {
    const int64_t begin = of.start[sample];
    const auto worth = [&](int32_t u, double x, double after) {
        felt[u] = T(double(felt[u]) * of.event.of(u, x) - of.used[u] * x * after);
    };
    for (; *state.next > begin && of.step[*state.next - 1] >= step; --*state.next) {
        const int64_t e = *state.next - 1, before = of.previous[e];
        const int32_t u = of.unit[e];
        const double after = state.coming[u] < 0 ? 0.0 : state.ahead[u] * relaxed(of.time[state.coming[u]] - of.time[e], of.tau[u]);
        if (of.step[e] == step && (before < 0 || of.step[before] < step)) worth(u, of.x[e], after);
        state.ahead[u] = (1 - of.used[u]) * after + of.event.slope[u] * by_size[e - begin];
        state.coming[u] = e, state.latest[u] = before;
    }
    for (int32_t u = 0; u < of.units; ++u) {
        const int64_t coming = state.coming[u], latest = state.latest[u], own = sample * of.units + u;
        if (coming >= 0 && of.step[coming] == step) continue;
        const double since = latest < 0 ? of.last[own] : of.time[latest], found = latest < 0 ? of.first[own] : of.x[latest];
        const double after = coming < 0 ? 0.0 : state.ahead[u] * relaxed(of.time[coming] - middle, of.tau[u]);
        worth(u, resource(found, of.used[u], relaxed(middle - since, of.tau[u])), after);
    }
}

template void draw_back(const Drawn&, const DrawnState&, int64_t, int64_t, double, const double*, float*);
template void draw_back(const Drawn&, const DrawnState&, int64_t, int64_t, double, const double*, double*);

}  // namespace spikeloop
