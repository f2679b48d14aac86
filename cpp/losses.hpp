// Losses, with their derivatives: of a few numbers a sample, on which array operations would spend their time waiting for each
// other. Means over the batch, NaN if a label names no unit.
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

    // `silent` (batch,) tells where the label's unit is; the mean's derivative is written to `by_time` (spikes,), zeros before.
    double operator()(const Trains& spikes, int64_t batch, int64_t units, const int64_t* label, uint8_t* silent, double* by_time) const {
        double sum = 0;
        const double share_of_mean = 1.0 / double(std::max<int64_t>(batch, 1));
        const double late = spikes.latest(batch) + tau1;
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

// -log softmax(scale * value)[label] for values (batch, classes), sample by sample: tell(sample, loss). The derivative of their sum,
// times `weight`, is written to `slope`, as large.
template <class T, class Tell>
void cross_entropies(const T* value, int64_t batch, int64_t classes, const int64_t* label, double scale, double weight, T* slope, Tell&& tell) {
    std::vector<double> share(classes);
    for (int64_t b = 0; b < batch; ++b, value += classes, slope += classes) {
        const int64_t wanted = label[b];
        if (wanted < 0 || wanted >= classes) {
            tell(b, std::numeric_limits<double>::quiet_NaN());
            continue;
        }
        double highest = -kInfinity, norm = 0;
        for (int64_t c = 0; c < classes; ++c) highest = std::max(highest, scale * double(value[c]));
        for (int64_t c = 0; c < classes; ++c) norm += share[c] = std::exp(scale * double(value[c]) - highest);
        for (int64_t c = 0; c < classes; ++c) slope[c] = T((share[c] / norm - (c == wanted)) * scale * weight);
        tell(b, std::log(norm) - (scale * double(value[wanted]) - highest));
    }
}

// Their mean, and its derivative.
template <class T>
double cross_entropy(const T* value, int64_t batch, int64_t classes, const int64_t* label, double scale, T* slope) {
    double sum = 0;
    const double share_of_mean = 1.0 / double(std::max<int64_t>(batch, 1));
    cross_entropies(value, batch, classes, label, scale, share_of_mean, slope, [&](int64_t, double loss) { sum += loss; });
    return sum * share_of_mean;
}

}  // namespace spikeloop
