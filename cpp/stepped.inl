// The steps themselves, see stepped_forward.cpp: all neurons of a population, with those that go alone, step by step.
#include "stepped_raised.inl"
#include "stepped_arrivals.inl"
#include "stepped_lanes.inl"
#include "stepped_vectors.inl"

// A population's neurons through step k.
template <class T, int Compartments, bool Exponential, bool Adaptation, bool Conductance>
void step_all(SteppedSample<T>& sample, int p, int64_t k, const SteppedEvent* events, int64_t count, SteppedRange range) {
    constexpr int W = Compartments != 1 ? 1 : sizeof(T) == 8 ? 4 : 2;  // as many as hide each other's latency: measured
    const SteppedLayer<T>& layer = sample.stage.layers[p];
    SteppedWay<T>& way = sample.ways[p];
    const double h = sample.stage.run.step, end = double(k + 1) * h;
    for (int64_t l = range.first; l < std::min(range.last, layer.size); l += W * kLanes<T>) {
        SteppedVectors<T, Compartments, W, Exponential, Adaptation, Conductance> vectors(layer, way, l);
        vectors.begin(end);
        if (Compartments == 0 && !layer.by_v.empty() && !vectors.holds) vectors.propagate();
        else vectors.collect(), vectors.integrate();
        vectors.look(k, end);
        uint64_t alone = vectors.settle();
        if (!alone) [[likely]] continue;
        for (; alone; alone &= alone - 1)
            if (const int64_t m = l + __builtin_ctzll(alone); m < layer.size) sample.go_alone(p, m, k, events, count);
        for (int q = 0; q < W; ++q) sample.look_for_releases(p, l / kLanes<T> + q, end);
    }
    std::fill(way.touched.begin(), way.touched.end(), uint8_t(0));
}

template <class T>
using SteppedKernel = void (*)(SteppedSample<T>&, int, int64_t, const SteppedEvent*, int64_t, SteppedRange);

#if SPIKELOOP_TARGETS && SPIKELOOP_TARGET == 0
template <class T>
SteppedKernel<T> kernel_of(const SteppedLayer<T>& x) {  // old machines: two kernels, to be compiled sooner
    return x.compartments == 1 ? step_all<T, 1, true, true, true> : step_all<T, 0, true, true, true>;
}
#else
template <class T>
SteppedKernel<T> kernel_of(const SteppedLayer<T>& x) {
    const bool more = x.exponential || x.adaptation;
    if (x.compartments > 1) return more ? step_all<T, 0, true, true, true> : x.conductance ? step_all<T, 0, false, false, true> : step_all<T, 0, false, false, false>;
    if (x.conductance) return more ? step_all<T, 1, true, true, true> : step_all<T, 1, false, false, true>;
    if (!more) return step_all<T, 1, false, false, false>;
    return !x.adaptation ? step_all<T, 1, true, false, false> : x.exponential ? step_all<T, 1, true, true, false> : step_all<T, 1, false, true, false>;
}
#endif

// Some neurons of a sample through all steps.
template <class T>
void march(SteppedSample<T>& sample, SteppedRange range, Watch& watch) {
    const SteppedStage<T>& stage = sample.stage;
    const SteppedRun& run = stage.run;
    std::vector<SteppedKernel<T>> kernels;
    for (const auto& layer : stage.layers) kernels.push_back(kernel_of(layer));
    for (int64_t k = run.first; k < run.first + run.steps; ++k) {
        watch.glance();
        int64_t count = 0;
        const SteppedEvent* events = sample.arrivals(k, count);
        if (count) deliver(stage, sample, k, events, count, range);
        for (size_t p = 0; p < kernels.size(); ++p) {
            sample.deliver_jumps(int(p), k, range);
            sample.take_samples(int(p), k, false, events, count, range);
            kernels[p](sample, int(p), k, events, count, range);
            sample.end_jumps(int(p), k);
        }
    }
    for (size_t p = 0; p < kernels.size(); ++p) sample.take_samples(int(p), run.first + run.steps, true, nullptr, 0, range);
}
