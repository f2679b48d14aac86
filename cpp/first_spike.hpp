// A loss of each unit's first spike, with its derivative: a few numbers a sample, on which array operations would spend their
// time waiting for each other.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "stage.hpp"

namespace spikeloop {

// -log softmax(-t / tau0)[label] + alpha (exp(t_label / tau1) - 1), t the first spike of each unit; a silent unit counts as
// spiking at `late`. The second term is left out where the label's unit is silent, and grows no more beyond `steepest`.
struct FirstSpikeLoss {
    double tau0, tau1, alpha, late, steepest;

    // The sum over the batch; `silent` (batch,) tells where the label's unit is; dL/dt is written to `by_time` (spikes,).
    double operator()(const Trains& spikes, int64_t batch, int64_t units, const int64_t* label, uint8_t* silent, double* by_time) const {
        double sum = 0;
        std::vector<int64_t> row(units);
        std::vector<double> share(units);
        for (int64_t b = 0; b < batch; ++b) {
            std::fill(row.begin(), row.end(), -1);
            for (int64_t e = spikes.start[b]; e < spikes.start[b + 1]; ++e)
                if (row[spikes.unit[e]] < 0) row[spikes.unit[e]] = e;
            const auto first = [&](int64_t u) { return row[u] < 0 ? late : spikes.time[row[u]]; };
            double earliest = kInfinity, norm = 0;
            for (int64_t u = 0; u < units; ++u) earliest = std::min(earliest, first(u));
            for (int64_t u = 0; u < units; ++u) norm += share[u] = std::exp((earliest - first(u)) / tau0);
            const int64_t wanted = label[b];
            sum += (first(wanted) - earliest) / tau0 + std::log(norm);
            for (int64_t u = 0; u < units; ++u)
                if (row[u] >= 0) by_time[row[u]] = ((u == wanted) - share[u] / norm) / tau0;
            silent[b] = row[wanted] < 0;
            if (silent[b]) continue;
            const double exponent = first(wanted) / tau1, steep = std::exp(std::min(exponent, steepest));
            sum += alpha * (steep - 1);
            if (exponent <= steepest) by_time[row[wanted]] += alpha / tau1 * steep;
        }
        return sum;
    }
};

}  // namespace spikeloop
