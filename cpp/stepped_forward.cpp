// The forward pass of stepped.hpp. Within a step of h everything smooth goes by Runge and Kutta's fourth-order rule, for vectors of
// neurons; what an arrival brings within its step is replaced by a current that is linear in time and of the same first two
// moments. Lanes that may cross a threshold, are released, or rise steeply go alone, in double precision and cut at every arrival.
#include "stepped.hpp"

#include "simd.hpp"
#include "spike_order.hpp"
#include "stepped_march.hpp"

#define SPIKELOOP_KERNEL "stepped.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

// Which receptors of a population anything reaches: (K, C).
template <class T>
std::vector<uint8_t> used_slots(const SteppedPopulation<T>& population, const std::vector<SteppedLink<T>>& links, int number, int64_t batch) {
    const SteppedCells& cells = population.cells;
    const int64_t kinds = int64_t(cells.receptors) * cells.compartments;
    std::vector<uint8_t> used(kinds, 0);
    for (const auto& link : links)
        if (link.target == number) used[link.receptor * cells.compartments + link.compartment] = 1;
    for (int64_t b = 0; population.start.i && b < batch; ++b)
        for (int64_t k = 0; k < kinds; ++k)
            for (int64_t m = 0; m < cells.size && !used[k]; ++m) used[k] = population.start.i[(b * kinds + k) * cells.size + m] != 0;
    return used;
}

}  // namespace

template <class T>
SteppedStage<T>::SteppedStage(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links, const SteppedRun& run)
    : links(links), run(run), leaving(populations.size()) {
    layers.reserve(populations.size());
    for (size_t p = 0; p < populations.size(); ++p) layers.emplace_back(populations[p], run.step, used_slots(populations[p], links, int(p), run.batch));
    for (size_t k = 0; k < links.size(); ++k) {
        if (links[k].source < 0) continue;
        leaving[links[k].source].push_back(int(k));
        const SteppedLink<T>& link = links[k];
        const int64_t delays = link.delays == SteppedDelay::common ? 1 : link.delays == SteppedDelay::per_unit ? link.size : link.begin[link.size];
        for (int64_t d = 0; d < delays; ++d) longest = std::max(longest, int64_t(std::ceil(link.delay[d] / run.step)) + 2);
    }
}

template <class T>
std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links,
                                             const SteppedRun& run) {
    const SteppedStage<T> stage(populations, links, run);
    const bool blockwise = stage.blockwise();
    const int64_t blocks = blockwise ? std::max<int64_t>(stage.layers[0].padded / kSteppedBlock<T>, 1) : 1;
    std::vector<SpikesPerSample> spikes(populations.size(), SpikesPerSample(run.batch));
    std::vector<std::vector<std::vector<Spike>>> parts(blocks * run.batch, std::vector<std::vector<Spike>>(populations.size()));
    parallel_for(run.batch * blocks, run.threads, 1, [&](int64_t index, Watch& watch) {
        const int64_t number = index / blocks, block = index % blocks;
        SteppedRange range;
        if (blockwise) range = {block * kSteppedBlock<T>, (block + 1) * kSteppedBlock<T>};
        SteppedSample<T> sample(stage, number);
        for (auto& list : parts[index]) sample.spikes.push_back(&list);
        sample.set_out(range);
        SPIKELOOP_BEST(march(sample, range, watch));
        sample.finish(range);
    });
    const double end = double(run.first + run.steps) * run.step;
    for (size_t p = 0; p < populations.size(); ++p)
        for (int64_t b = 0; b < run.batch; ++b) {
            for (int64_t k = 0; k < blocks; ++k) {
                const auto& part = parts[b * blocks + k][p];
                spikes[p][b].insert(spikes[p][b].end(), part.begin(), part.end());
            }
            sort_spikes(spikes[p][b], double(run.first) * run.step, end);
        }
    return spikes;
}

template std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<float>>&, const std::vector<SteppedLink<float>>&, const SteppedRun&);
template std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<double>>&, const std::vector<SteppedLink<double>>&, const SteppedRun&);
template struct SteppedStage<float>;
template struct SteppedStage<double>;

}  // namespace spikeloop
