// Disturbed neurons that reach each other: from one event, outside or inside, to the next, all neurons together.
#include "disturbed.hpp"
#include "disturbed_lane.hpp"
#include "spike_order.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

struct Shared {
    const std::vector<DenseSource<float>>& sources;
    const float* weight;  // (size, size)
    const Neurons& neurons;
    const Disturbance& disturbance;
    const Request& request;
    std::vector<Stride> stride;
};

class LoopRun {
  public:
    LoopRun(const Shared& shared, int64_t sample, std::vector<Spike>& spikes)
        : s_(shared), sample_(sample), size_(shared.neurons.size), spikes_(spikes), lane_(size_), state_(size_) {}

    void operator()() {
        for (int64_t m = 0; m < size_; ++m) {
            lane_[m].start(s_.neurons[m], s_.stride[m], s_.disturbance, s_.request, sample_, s_.disturbance.key_of(sample_), m, size_);
            state_[m] = {lane_[m].neuron.initial(), 0.0, 0.0};
        }
        std::vector<Arrival> arrivals;
        gather_arrivals(s_.sources, {}, sample_, s_.request.begin, s_.request.until, arrivals);
        for (const Arrival& a : arrivals) {
            go_to(a.time);
            arrive(s_.sources[a.source].weight + a.unit * size_);
        }
        go_to(s_.request.until);
    }

  private:
    // Everybody to `time`, from one spike to the next.
    void go_to(double time) {
        while (now_ < time) {
            const auto lanes = lane_;
            const auto states = state_;
            const Spike first = earliest(time);
            for (int64_t m = 0; first.unit >= 0 && m < size_; ++m) bring(m, lanes[m], states[m], first);
            take_samples(states, first.time, first.unit < 0);
            now_ = first.time;
            if (first.unit < 0 || !lane_[first.unit].sends) continue;
            spikes_.push_back(first);
            arrive(s_.weight + first.unit * size_);
        }
    }

    // Neuron m from what it was when the search began to the first spike found. What was drawn for later is thrown away,
    // and no number is used twice. That somebody else was the first says that this one's noise did not make it spike
    // before: it is drawn anew until it does not.
    void bring(int64_t m, const Lane& lane, const State& state, const Spike& first) {
        const bool drawn = lane_[m].noise.random.count != lane.noise.random.count;
        do {
            const Stream random = lane_[m].noise.random;
            lane_[m] = lane, state_[m] = state;
            lane_[m].noise.random = random;
        } while (drawn && m != first.unit && lane_[m].first_spike(state_[m], now_, first.time) >= 0);
        if (m == first.unit)
            lane_[m].fire(state_[m], now_, first.time);
        else if (!drawn)
            lane_[m].drift(state_[m], now_, first.time);
    }

    // The first spike before `until`, to where everybody is brought; unit -1: there is none.
    Spike earliest(double until) {
        Spike best{until, -1};
        for (int64_t m = 0; m < size_; ++m) {
            const double time = lane_[m].first_spike(state_[m], now_, until);
            if (time >= 0 && (best.unit < 0 || time < best.time)) best = {time, int32_t(m)};
        }
        return best;
    }

    void arrive(const float* row) {
        for (int64_t m = 0; m < size_; ++m) {
            if (row[m] == 0) continue;
            const double most = s_.disturbance.most[m], floor = s_.disturbance.floor[m] - s_.neurons.leak[m];
            state_[m].i = std::clamp(state_[m].i + double(row[m]), -most, most);
            state_[m].v = std::max(state_[m].v, floor);
        }
    }

    // Samples from now to `end` of neurons that were in `before`: taking them changes nothing else.
    void take_samples(const std::vector<State>& before, double end, bool inclusive) {
        const Sampling& x = s_.request.sampling;
        if (!x.units) return;
        const double* times = x.times(sample_);
        for (; next_sample_ < x.count && (times[next_sample_] < end || (inclusive && times[next_sample_] == end)); ++next_sample_)
            for (int64_t c = 0; c < x.units; ++c) {
                const int32_t m = x.unit[c];
                const double time = times[next_sample_], v = membrane_at(lane_[m].neuron, before[m], now_, time, 0);
                x.value[(sample_ * x.count + next_sample_) * x.units + c] = v + lane_[m].seen(time) + s_.neurons.leak[m];
            }
    }

    const Shared& s_;
    int64_t sample_, size_, next_sample_ = 0;
    double now_ = 0;
    std::vector<Spike>& spikes_;
    std::vector<Lane> lane_;
    std::vector<State> state_;
};

}  // namespace

const SpikesPerSample& disturbed_loop(const std::vector<DenseSource<float>>& sources, const float* weight, const Neurons& neurons,
                                      const Disturbance& disturbance, const Request& request) {
    SpikesPerSample& spikes = room_for(request.batch);
    Shared shared{sources, weight, neurons, disturbance, request, {}};
    for (int64_t m = 0; m < neurons.size; ++m) shared.stride.emplace_back(neurons[m]);
    parallel_for(request.batch, request.threads, 1, [&](int64_t sample) {
        LoopRun(shared, sample, spikes[sample])();
        sort_spikes(spikes[sample]);
    });
    return spikes;
}

}  // namespace spikeloop
