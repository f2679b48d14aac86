// Forward sweep of a feed-forward population: the states of a block of neurons stay in registers while a sample's sorted
// arrivals pass. Per arrival: one weight row, the flow to the next arrival, and a bound on V in between; only neurons whose
// bound reaches the threshold are looked at one by one, in double precision.
#include "crossings.hpp"
#include "dense.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int kPieces = 8;      // of an interval, for a closer bound
constexpr double kLong = 0.1;   // an interval worth it, in tau_syn

// From one arrival to the next. `top` bounds the response to a unit current within the interval.
template <class T>
struct Interval {
    double begin, end;
    T em, es, g, top;
};

// The same in equal pieces: the membrane's decay until the end of each, from 1 on, and bounds on the response within each.
template <class T>
struct Pieces {
    bool made = false;
    T em[kPieces + 1], top[kPieces];
};

// One sample, shared by all blocks of neurons.
template <class T>
struct Sweep {
    const std::vector<DenseSource<T>>* sources;
    const Neurons* neurons;
    const Neuron* neuron;  // the same, one by one
    const double* peak;    // response_peak of each
    const Request* request;
    int64_t sample;
    std::vector<Arrival> arrivals;
    std::vector<Interval<T>> intervals;  // one more than arrivals
    mutable std::vector<Pieces<T>> pieces;  // of each, made when asked for
    std::vector<Spike>* spikes;
    mutable Pack pack;
    int64_t slot(int64_t m) const { return sample * neurons->size + m; }
    bool may_spike(int64_t m) const { return neurons->spiking && !(request->silent && request->silent[slot(m)]); }
    bool wants_peak() const { return request->peaks.value != nullptr; }
};

// Neurons first .. first + count and where their weight columns lie.
template <class T>
struct Block {
    int64_t first, count;
    std::vector<const T*> column;  // per source
    int64_t stride;
    const T* row(const Arrival& arrival) const { return column[arrival.source] + arrival.unit * stride; }
};

template <class T, int N>
struct Lanes {
    alignas(64) T v[N], i[N], next_v[N], next_i[N], level[N];
    alignas(64) int8_t close[N];  // the bound reached the level
    Neuron neuron[N];
    Maximum peak[N];
    double free[N];
    int64_t fired[N];
    bool spiking[N];
    std::vector<std::pair<int, int64_t>> sampled;  // (lane, column of the samples)
    int64_t next_sample = 0;
};

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "dense_forward.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

// Blocks of neurons; the columns of the last, narrower ones are copied so that whole vectors can be read.
template <class T>
std::vector<Block<T>> make_blocks(const std::vector<DenseSource<T>>& sources, int64_t size, int64_t width, std::vector<std::vector<T>>& copies) {
    std::vector<Block<T>> blocks;
    for (int64_t first = 0; first < size;) {
        const int64_t left = size - first, take = std::min(left, width);
        Block<T> block{first, take, {}, size};
        const int64_t padded = (take + kLanes<T> - 1) / kLanes<T> == 3 ? width : (take + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
        const bool whole = take == padded;
        if (!whole) block.stride = padded;
        for (const auto& source : sources) {
            if (whole) {
                block.column.push_back(source.weight + first);
                continue;
            }
            std::vector<T> copy(source.size * padded, T(0));
            for (int64_t u = 0; u < source.size; ++u)
                std::copy_n(source.weight + u * size + first, take, copy.data() + u * padded);
            block.column.push_back(copy.data());
            copies.push_back(std::move(copy));
        }
        blocks.push_back(std::move(block));
        first += take;
    }
    return blocks;
}

}  // namespace

template <class T>
SpikesPerSample dense_forward(const std::vector<DenseSource<T>>& sources, const Neurons& neurons, const Request& request) {
    SpikesPerSample spikes(request.batch);
    if (neurons.size == 0) return spikes;
    std::vector<Neuron> neuron(neurons.size);
    for (int64_t m = 0; m < neurons.size; ++m) neuron[m] = neurons[m];
    std::vector<double> peak(neurons.size);
    const bool one_tau = neurons.one_tau();
    for (int64_t m = 0; m < neurons.size; ++m) peak[m] = one_tau && m > 0 ? peak[0] : response_peak(neuron[m].a, neuron[m].b);
    std::vector<std::vector<T>> copies;
    const int64_t width = kLanes<T> * (one_tau && neurons.spiking ? 4 : 1);
    const std::vector<Block<T>> blocks = make_blocks(sources, neurons.size, width, copies);
    double work = 50.0 * double(request.batch * neurons.size);  // a rough guess: crossings, then arrivals at vectors
    for (const auto& source : sources)
        work += double(source.trains.start[request.batch] - source.trains.start[0]) * double(neurons.size / kLanes<T> + 1) * 10;
    parallel_for(request.batch, worthwhile(request.threads, work), 2, [&](int64_t sample, Watch& watch) {
        Sweep<T>& way = own<Sweep<T>>();
        way.sources = &sources, way.neurons = &neurons, way.neuron = neuron.data(), way.peak = peak.data(), way.request = &request;
        way.sample = sample, way.spikes = &spikes[sample];
        gather_arrivals(sources, sample, request.duration, way.arrivals);
        way.intervals.resize(way.arrivals.size() + 1);
        double now = 0;
        for (size_t n = 0; n < way.intervals.size(); ++n) {
            const double next = n < way.arrivals.size() ? way.arrivals[n].time : request.duration;
            way.intervals[n].begin = now, way.intervals[n].end = next;
            now = next;
        }
        way.pieces.assign(way.intervals.size(), {});
        if (one_tau) SPIKELOOP_BEST(set_flows(way.intervals, neuron[0].a, neuron[0].b));
        for (const auto& block : blocks) {
            watch.look();
            SPIKELOOP_BEST(sweep(way, block, one_tau));
        }
        std::sort(spikes[sample].begin(), spikes[sample].end(), earlier);
    });
    return spikes;
}

template SpikesPerSample dense_forward(const std::vector<DenseSource<float>>&, const Neurons&, const Request&);
template SpikesPerSample dense_forward(const std::vector<DenseSource<double>>&, const Neurons&, const Request&);

}  // namespace spikeloop
