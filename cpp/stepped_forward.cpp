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
        sample.set_out();
        SPIKELOOP_BEST(march(sample, range, watch));
        sample.finish(range);
    });
    for (size_t p = 0; p < populations.size(); ++p)
        for (int64_t b = 0; b < run.batch; ++b) {
            for (int64_t k = 0; k < blocks; ++k) {
                const auto& part = parts[b * blocks + k][p];
                spikes[p][b].insert(spikes[p][b].end(), part.begin(), part.end());
            }
            sort_spikes(spikes[p][b]);
        }
    return spikes;
}

template std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<float>>&, const std::vector<SteppedLink<float>>&, const SteppedRun&);
template std::vector<SpikesPerSample> stepped_forward(const std::vector<SteppedPopulation<double>>&, const std::vector<SteppedLink<double>>&, const SteppedRun&);

}  // namespace spikeloop
