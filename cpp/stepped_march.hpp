// A stage and one of its samples, step by step: arrivals, lanes that are looked at one by one, samples.
#pragma once
#include <tuple>

#include "stepped_layer.hpp"
#include "threads.hpp"

namespace spikeloop {

struct SteppedEvent {
    double time;
    int32_t link, unit;
    int64_t synapse;  // or -1: the whole row of `unit`
    double amplitude;
    int64_t number;   // of the spike, among the link's trains
};
struct SteppedOrder {
    bool operator()(const SteppedEvent& x, const SteppedEvent& y) const {
        return std::tie(x.time, x.link, x.unit, x.synapse) < std::tie(y.time, y.link, y.unit, y.synapse);
    }
};

template <class T>
struct SteppedStage {
    std::vector<SteppedLayer<T>> layers;
    const std::vector<SteppedLink<T>>& links;
    const SteppedRun& run;
    std::vector<std::vector<int>> leaving;  // by population: links inside the stage
    int64_t longest = 1;                    // of their delays, in steps

    SteppedStage(const std::vector<SteppedPopulation<T>>& populations, const std::vector<SteppedLink<T>>& links, const SteppedRun& run,
                 bool whole = false);  // whole: adaptation is there even where a and b are 0
    // Blocks of neurons can pass all steps one after the other.
    bool blockwise() const {
        for (const auto& link : links)
            if (link.source >= 0 || link.unit) return false;
        return layers.size() == 1;
    }
};

// The neurons first .. last of all populations that are carried along together.
struct SteppedRange {
    int64_t first = 0, last = std::numeric_limits<int64_t>::max();
};

template <class T>
struct SteppedSample {
    const SteppedStage<T>& stage;
    int64_t number;
    std::vector<SteppedWay<T>> ways;
    std::vector<SteppedEvent> outside;         // in order
    std::vector<int64_t> begin;                // of each step, among those
    std::vector<std::vector<SteppedEvent>> later;  // by step, in a ring: spikes of the stage itself
    std::vector<std::vector<Spike>*> spikes;   // by population

    SteppedSample(const SteppedStage<T>& stage, int64_t number);
    void set_out();
    // What arrives within step k, in order.
    const SteppedEvent* arrivals(int64_t k, int64_t& count);
    void deliver_jumps(int p, int64_t k, SteppedRange range);
    void end_jumps(int p, int64_t k);
    void set_current(int p, size_t n);
    void take_samples(int p, int64_t k, bool last, const SteppedEvent* events, int64_t count, SteppedRange range);
    // Neuron m of population p through step k, in double precision.
    void go_alone(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count);
    // When the first compartment of a vector that is held after `now` is released.
    void look_for_releases(int p, int64_t vector, double now);
    void finish(SteppedRange range);

  private:
    void gather();
    void add(int link, double time, int32_t unit, double amplitude, int64_t event, bool inside, std::vector<SteppedEvent>* to);
    // How large an event is that a unit of the stage sends now.
    double use(int link, int32_t unit, double time);
    void of_lane(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count);
    template <int Compartments>
    void alone(int p, int64_t m, int64_t k, const SteppedEvent* events, int64_t count);
    template <class Walk>
    void load(int p, int64_t m, int64_t k, Walk& walk) const;
    template <class Walk>
    void store(int p, int64_t m, int64_t k, const Walk& walk);
    double sample(const SteppedSampling& wanted, int p, int64_t m, int c, int64_t k, double time);
    void emit(int p, int64_t m, double time);
    // A crossing at `at` of step k, with all that follows of it.
    template <class Walk>
    void fire(int p, int64_t m, int c, int64_t k, Walk& walk);
    template <class Walk>
    void fire_unseen(int p, int64_t m, int c, int64_t k, Walk& walk) const;
    double drawn_shift(int p, int64_t m, int c, int64_t fired) const;
    void start_noise(int p);
    template <class Walk>
    double seen_noise(int p, int64_t m, int c, const Walk& walk) const;
    double spike_time(int64_t k, double at) const;
    bool is_noisy(int p, int64_t m) const;
    template <class Walk, class OnSpike>
    void go(int p, int64_t m, int64_t k, Walk& walk, double end, OnSpike&& spike);
    template <class Walk, class OnSpike>
    void go_noisy(int p, int64_t m, int64_t k, Walk& walk, double end, OnSpike&& spike);

    double h() const { return stage.run.step; }
    double start_of(int64_t k) const { return double(k) * stage.run.step; }
    std::vector<SteppedEvent> together_;
    std::vector<SteppedArrival> lane_;
    struct Resource {
        double x, last;
    };
    std::vector<std::vector<Resource>> resources_;  // by link, of those with a driver
};

}  // namespace spikeloop
