// The sweep of dense_forward.cpp for neurons that all differ: flows come from a table over multiples of the tick, so that no
// exponential is computed per interval. Block after block of neurons goes through some samples, whose crossings are solved
// side by side, and so are neurons whose noise may take them to their thresholds (noisy.inl).
#include "disturbed.hpp"

#include <array>

#include "crossings.hpp"
#include "disturbed_lane.hpp"
#include "flow_table.hpp"
#include "simd.hpp"
#include "spike_order.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int kPieces = 8;     // of a long interval, for a closer look
constexpr double kLong = 0.2;  // such an interval, in tau_syn
constexpr int64_t kTogether = 16;  // samples that pass a block together
constexpr int64_t kWalks = 24;     // blocks of samples that go on side by side
constexpr float kSlack = 1e-5f;    // relative: the bound must not fail for single precision

// A neuron with noise in single precision; see `Neuron`, `Stride`.
struct Restless {
    float a, b, share, peak, rms, step;
    Restless(const Neuron& n, const Stride& stride, double rms)
        : a(float(n.a)), b(float(n.b)), share(float(n.a / (n.b - n.a))), peak(float(stride.peak)), rms(float(rms)), step(float(stride.length)) {}
};

// When samples get a membrane's noise, if there is any: as they are taken; or, where the threshold is out of reach and nothing
// else depends on it, all together when the sample of the batch has passed.
enum class Seen : uint8_t { none, at_once, afterwards };

// What an arrival adds to the currents of a block.
struct BlockRow {
    alignas(64) float weight[kBlock] = {};
};

// One population, the same for all samples; all per neuron but for the weights.
struct Layer {
    const std::vector<DenseSource<float>>& sources;
    const Neurons& neurons;
    const Disturbance& disturbance;
    const Request& request;
    int64_t blocks;
    std::vector<BlockRow> weight;         // (blocks, units of all sources)
    std::vector<int32_t> first_unit = {0};  // of each source, among those of all
    FlowTable table;
    std::vector<Neuron> neuron;
    std::vector<Stride> stride;
    std::vector<Restless> restless;
    std::vector<float> initial, level, floor, most, top, reach;  // padded; top: `peak` with room for rounding; reach: of the noise
    std::vector<uint8_t> alone;   // it is not solved together with others
    std::vector<Seen> seen;       // when samples get its noise
    std::vector<std::vector<std::pair<int, int64_t>>> sampled;  // by block: (lane, column of the samples)
    double quickest = kInfinity;  // earliest peak of a response
    double long_time = kInfinity;  // an interval worth a look in pieces
    bool jumps = false;           // a floor or a saturation exists
    bool tonic = false;           // some fire without input
    bool noisy_thresholds = false;  // some are drawn for every spike
    Layer(const std::vector<DenseSource<float>>& sources, const Neurons& neurons, const Disturbance& disturbance, const Request& request)
        : sources(sources), neurons(neurons), disturbance(disturbance), request(request), blocks((neurons.size + kBlock - 1) / kBlock) {}
    const BlockRow* rows(int64_t block) const { return weight.data() + block * first_unit.back(); }
};

// One sample on its way. Interval n ends with arrival n, or with the run.
struct Passage {
    int64_t sample = 0;
    uint64_t key = 0;  // of its noise
    std::vector<int32_t> row;  // weights of each arrival
    std::vector<Ticks> ticks;  // length of each interval
    std::vector<double> time;  // where the intervals begin, and the end
    std::vector<Spike>* spikes = nullptr;
};

// A block of one passage: where it is.
struct Walk {
    alignas(64) float v[kBlock], i[kBlock], next_v[kBlock], next_i[kBlock], level[kBlock];
    alignas(64) float noise[kBlock], seen[kBlock];  // the membrane's noise, and when it was last drawn
    BlockFlows flows;                // of the interval, where the table does not have it
    uint32_t close[kBlockVectors];    // one bit a lane: the bound reached the level
    uint32_t known[kBlockVectors];    // likewise: `lane` holds something
    const Passage* passage;
    int64_t block;
    size_t n;  // the interval
    int64_t next_sample;
    Lane lane[kBlock];
    int64_t first() const { return block * kBlock; }
    double begin() const { return passage->time[n]; }
    double end() const { return passage->time[n + 1]; }
    bool is_close(int l) const { return close[l / kLanes<float>] >> l % kLanes<float> & 1; }
    // What the sweep knows of a neuron that has been looked at until `time`.
    void stand(int l, double time) { level[l] = lane[l].level(time), noise[l] = float(lane[l].noise.path.x), seen[l] = float(lane[l].noise.path.time); }
};

// A neuron with noise at the beginning of an interval.
struct Noisy {
    Walk* walk;
    int lane;
    float v, i;
    Samples samples;
};

// Lanes of walks that are brought on together.
struct Waiting {
    Pack pack;
    std::pair<Walk*, int> lane[Pack::kRoom];  // of the pack
    std::vector<Noisy> noisy;
    bool full() const { return pack.count + kBlock > Pack::kRoom; }
    size_t count() const { return size_t(pack.count) + noisy.size(); }
    void clear() { pack.count = 0, noisy.clear(); }
};

void lay_out_weights(Layer& layer) {
    const int64_t size = layer.neurons.size;
    for (const auto& source : layer.sources) layer.first_unit.push_back(layer.first_unit.back() + int32_t(source.size));
    const int64_t units = layer.first_unit.back();
    layer.weight.resize(layer.blocks * units);
    for (size_t s = 0; s < layer.sources.size(); ++s)
        for (int64_t block = 0; block < layer.blocks; ++block)
            for (int64_t u = 0; u < layer.sources[s].size; ++u)
                std::copy_n(layer.sources[s].weight + u * size + block * kBlock, std::min<int64_t>(kBlock, size - block * kBlock),
                            layer.weight[block * units + layer.first_unit[s] + u].weight);
}

void describe(Layer& layer) {
    const Disturbance& d = layer.disturbance;
    const Sampling& sampling = layer.request.sampling;
    const int64_t size = layer.neurons.size, padded = layer.blocks * kBlock;
    layer.initial.assign(padded, 0.0f), layer.level.assign(padded, std::numeric_limits<float>::infinity());
    layer.floor.assign(padded, -std::numeric_limits<float>::infinity()), layer.most.assign(padded, std::numeric_limits<float>::infinity());
    layer.top.assign(padded, 0.0f), layer.reach.assign(padded, 0.0f), layer.sampled.resize(layer.blocks);
    layer.table.a.assign(padded, 0.0), layer.table.b.assign(padded, 0.0);
    for (int64_t m = 0; m < size; ++m) {
        const Neuron& n = layer.neuron.emplace_back(layer.neurons[m]);
        layer.stride.emplace_back(n);
        layer.restless.emplace_back(n, layer.stride[m], d.noise[m]);
        layer.initial[m] = float(n.initial()), layer.level[m] = look_from(n, d.noise[m]);
        layer.floor[m] = float(d.floor[m] - layer.neurons.leak[m]), layer.most[m] = float(d.most[m]);
        layer.top[m] = float(layer.stride[m].peak) * (1 + kSlack), layer.reach[m] = float(kNoiseReach * d.noise[m]);
        layer.table.a[m] = n.a, layer.table.b[m] = n.b;
        // V comes no higher than `most`, its bound no higher than twice that.
        const bool quiet = !(d.threshold_noise[m] > 0) && layer.level[m] > 2 * std::max(layer.most[m], layer.floor[m]);
        layer.seen.push_back(!(d.noise[m] > 0) ? Seen::none : quiet ? Seen::afterwards : Seen::at_once);
        layer.alone.push_back(d.noise[m] > 0 || d.threshold_noise[m] > 0 || n.rises_to_threshold());
        layer.quickest = std::min(layer.quickest, response_peak_time(n.a, n.b)), layer.long_time = std::min(layer.long_time, kLong / n.b);
        layer.jumps |= std::isfinite(layer.floor[m]) || std::isfinite(layer.most[m]);
        layer.tonic |= n.rises_to_threshold(), layer.noisy_thresholds |= d.threshold_noise[m] > 0;
    }
    for (int64_t c = 0; c < sampling.units; ++c) layer.sampled[sampling.unit[c] / kBlock].emplace_back(sampling.unit[c] % kBlock, c);
}

// The samples of an interval: those at its end are in it.
struct Range {
    int64_t first, last;
};

Samples samples_of(const Layer& layer, const Walk& x, int l, Range range) {
    if (range.first == range.last) return {};
    const Sampling& sampling = layer.request.sampling;
    const int64_t sample = x.passage->sample;
    for (const auto& [lane, column] : layer.sampled[x.block])
        if (lane == l) {
            double* value = sampling.value + (sample * sampling.count + range.first) * sampling.units + column;
            return {sampling.times(sample) + range.first, range.last - range.first, value, sampling.units, layer.neurons.leak[x.first() + l]};
        }
    return {};
}

// The lane as the neuron that it is; most are never asked for.
Lane& lane_of(const Layer& layer, Walk& x, int l) {
    uint32_t& known = x.known[l / kLanes<float>];
    const uint32_t bit = 1u << l % kLanes<float>;
    if (!(known & bit)) {
        const int64_t m = x.first() + l;
        x.lane[l].start(layer.neuron[m], layer.stride[m], layer.disturbance, layer.request, x.passage->sample, x.passage->key, m, layer.neurons.size);
        known |= bit;
    }
    return x.lane[l];
}

void start(const Layer& layer, const Passage& way, int64_t block, Walk& x) {
    x.passage = &way, x.block = block, x.n = 0, x.next_sample = 0;
    std::fill_n(x.known, kBlockVectors, 0), std::fill_n(x.i, kBlock, 0.0f);
    std::fill_n(x.noise, kBlock, 0.0f), std::fill_n(x.seen, kBlock, float(kLongAgo));
    std::copy_n(layer.initial.data() + x.first(), kBlock, x.v), std::copy_n(layer.level.data() + x.first(), kBlock, x.level);
    for (int64_t m = x.first(); layer.noisy_thresholds && m < std::min(x.first() + kBlock, layer.neurons.size); ++m)
        if (layer.disturbance.threshold_noise[m] > 0) x.level[m - x.first()] = lane_of(layer, x, int(m - x.first())).level(0.0);
}

// The noise that samples see of neurons that never spike.
void add_noise(const Layer& layer, const Walk& x) {
    const Sampling& sampling = layer.request.sampling;
    const double* times = sampling.times(x.passage->sample);
    for (const auto& [l, column] : layer.sampled[x.block]) {
        const int64_t m = x.first() + l;
        if (layer.seen[m] != Seen::afterwards) continue;
        const double rms = layer.disturbance.noise[m];
        Stream random = seen_by_samples(layer.disturbance.random(x.passage->key, m));
        NoisePath path;
        double* value = sampling.value + x.passage->sample * sampling.count * sampling.units + column;
        for (int64_t k = 0; k < x.next_sample; ++k, value += sampling.units) path.bring(times[k], layer.neuron[m].a, rms, random), *value += path.x;
    }
}

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "disturbed.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

void prepare(const Layer& layer, int64_t sample, SpikesPerSample& spikes, Passage& way) {
    way.sample = sample, way.key = layer.disturbance.key_of(sample), way.spikes = &spikes[sample];
    way.spikes->clear();  // an explosion may have left some
    const Request& request = layer.request;
    const size_t most = most_arrivals(layer.sources, {}, sample);
    way.row.resize(most), way.time.resize(most + 2);
    const size_t count = add_in_order(layer.sources, {}, sample, request.begin, request.until, [&](size_t n, const Arrival& arrival) {
        way.row[n] = layer.first_unit[arrival.source] + arrival.unit, way.time[n + 1] = arrival.time;
    });
    way.row.resize(count), way.time.resize(count + 2), way.ticks.resize(count + 1);
    way.time[0] = request.begin, way.time[count + 1] = request.until;
    for (size_t n = 0; n <= count; ++n) way.ticks[n] = layer.table.ticks(way.time[n + 1] - way.time[n]);
}

// Scratch of one thread.
struct Workshop {
    std::vector<Passage> passages;
    std::vector<Walk> walks;
    std::vector<Walk*> going;
    Waiting waiting;
};

// Samples first .. first + count.
void pass(const Layer& layer, int64_t first, int64_t count, SpikesPerSample& spikes, Watch& watch) {
    Workshop& shop = own<Workshop>();
    const int64_t walks = layer.blocks * count, side_by_side = std::min(walks, kWalks);
    if (shop.passages.size() < size_t(count)) shop.passages.resize(count);
    if (shop.walks.size() < size_t(side_by_side)) shop.walks.resize(side_by_side);
    for (int64_t s = 0; s < count; ++s) prepare(layer, first + s, spikes, shop.passages[s]);
    shop.waiting.clear(), shop.going.clear();
    int64_t next = 0;  // block by block, sample by sample
    const auto begin = [&](Walk& walk) { start(layer, shop.passages[next % count], next / count, walk), ++next; };
    // Goes on with a walk, and with others in its place, until neurons of it wait; false: no walk is left.
    const auto waits = [&](Walk& walk) {
        for (;;) {
            layer.tonic ? watch.look() : watch.glance();  // a walk of those may take long
            if (shop.waiting.full()) SPIKELOOP_BEST(settle(layer, shop.waiting, watch));
            if (!SPIKELOOP_BEST(go_on(layer, walk, shop.waiting))) return true;
            add_noise(layer, walk);
            if (next == walks) return false;
            begin(walk);
        }
    };
    while (next < side_by_side) {
        Walk& walk = shop.walks[next];
        shop.going.push_back(&walk), begin(walk);
    }
    while (!shop.going.empty()) {
        std::erase_if(shop.going, [&](Walk* walk) { return !waits(*walk); });
        SPIKELOOP_BEST(settle(layer, shop.waiting, watch));
    }
    for (int64_t s = first; s < first + count; ++s) sort_spikes(spikes[s]);
}

}  // namespace

const SpikesPerSample& disturbed_forward(const std::vector<DenseSource<float>>& sources, const Neurons& neurons,
                                         const Disturbance& disturbance, const Request& request) {
    SpikesPerSample& spikes = room_for(request.batch);
    if (neurons.size == 0) return spikes;
    Layer layer(sources, neurons, disturbance, request);
    describe(layer), lay_out_weights(layer);
    SPIKELOOP_BEST(fill(layer.table, disturbance.tick));
    double work = 50.0 * double(request.batch * neurons.size);
    for (const auto& source : sources)
        work += double(source.trains.start[request.batch] - source.trains.start[0]) * double(layer.blocks * kBlock) * 0.3;
    const int threads = worthwhile(request.threads, work);
    const Parts groups(request.batch, kTogether, threads);
    parallel_for(groups.number, threads, 1, [&](int64_t group, Watch& watch) {
        const int64_t first = groups.first(group), count = groups.size(group);
        try {
            pass(layer, first, count, spikes, watch);
        } catch (const Explosion&) {  // the first sample of them is to be named
            for (int64_t s = first; s < first + count; ++s) pass(layer, s, 1, spikes, watch);
            throw;
        }
    });
    return spikes;
}

}  // namespace spikeloop
