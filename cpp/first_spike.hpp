// A loss of each unit's first spike, with its derivative: a few numbers a sample, on which array operations would spend their
// time waiting for each other.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "stage.hpp"

namespace spikeloop {

// -log softmax(-t / tau0)[label] + alpha (exp(t_label / tau1) - 1), t the first spike of each unit; a silent unit counts as
// spiking tau1 after the last spike of the batch. The second term is left out where the label's unit is silent, and grows no
// more beyond `steepest`.
struct FirstSpikeLoss {
    double tau0, tau1, alpha, steepest;

    // The mean over the batch, NaN if a label names no unit; `silent` (batch,) tells where the label's unit is; the mean's
    // derivative is written to `by_time` (spikes,), zeros before.
    double operator()(const Trains& spikes, int64_t batch, int64_t units, const int64_t* label, uint8_t* silent, double* by_time) const {
        double sum = 0, latest = 0;
        const double share_of_mean = 1.0 / double(std::max<int64_t>(batch, 1));
        for (int64_t e = spikes.start[0]; e < spikes.start[batch]; ++e) latest = std::max(latest, spikes.time[e]);
        const double late = latest + tau1;
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
            if (wanted < 0 || wanted >= units) return std::numeric_limits<double>::quiet_NaN();
            sum += (first(wanted) - earliest) / tau0 + std::log(norm);
            for (int64_t u = 0; u < units; ++u)
                if (row[u] >= 0) by_time[row[u]] = ((u == wanted) - share[u] / norm) / tau0 * share_of_mean;
            silent[b] = row[wanted] < 0;
            if (silent[b]) continue;
            const double exponent = first(wanted) / tau1, steep = std::exp(std::min(exponent, steepest));
            sum += alpha * (steep - 1);
            if (exponent <= steepest) by_time[row[wanted]] += alpha / tau1 * steep * share_of_mean;
        }
        return sum * share_of_mean;
    }
};

}  // namespace spikeloop
