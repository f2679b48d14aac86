// Forward sweep of feed-forward populations, stage by stage for a few samples at a time. The states of a block of neurons stay
// in registers while a sample's sorted arrivals pass. Per arrival: one weight row, the flow to the next arrival, and a bound
// on V in between. Where the bound of any neuron reaches its threshold the block pauses: the crossings of all blocks that
// pause are solved side by side, in double precision, and they go on.
// In single precision, where neurons share their time constants, the state is swept as it would be without decay, grown,
//   u = v exp(t / tau_mem), j = i exp(t / tau_syn), t since the last line of a grid in time,
// which is two multiply-adds an arrival, and a comparison: while i > 0 u never falls, so that a neuron which reaches its
// threshold in an interval ends it with u no less than the threshold, grown, where it begins; while i <= 0 it does not reach it,
// for the threshold is above leak. Where one time constant is twice to four times the other, `may_reach` then says which of them
// are worth a search; elsewhere bounds on pieces of the interval, and on its ends, do.
#include "crossings.hpp"
#include "dense.hpp"
#include "simd.hpp"
#include "spike_order.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int kPieces = 8;       // of an interval, for a closer bound
constexpr double kLong = 0.1;    // an interval worth it, in tau_syn
constexpr int kWidest = 8;       // vectors of a block
constexpr double kSpan = 32;     // of the exponents of what is grown: single precision leaves room for states up to 1e24
constexpr double kApart = 32;    // time constants farther apart are not: too many intervals would cross a line of the grid
constexpr int64_t kTogether = 32;  // blocks that pause together, at most
constexpr int64_t kGroups = 4;     // of samples for each thread, at least
constexpr int64_t kFew = 2;        // samples that are worth a group, where it is not the last

// Neurons first .. first + count; the lanes before `skip` belong to the block before.
struct Block {
    int64_t first;
    int skip, count, vectors;
};

// One population, the same for all samples.
template <class T>
struct Layer {
    const DenseStage<T>* stage = nullptr;
    int64_t number = 0;             // of the stage in the call
    std::vector<Neuron> neuron;
    std::vector<double> peak;       // response_peak of each
    std::vector<T> level, initial;  // what its bound must reach to be looked at, and V it starts with; of each
    bool one_tau = true, alike = true;  // neurons have one pair of time constants, are all the same
    bool grown = false;                  // they are swept grown
    bool one_level = false;              // none is silent or held, and the bounds of all are looked at from one value on
    bool tonic = false;                  // some fire without input
    int ratio = 0;                       // that of its neurons
    double span = 0;                     // between the lines of the grid in time, see above
    std::vector<Block> blocks;
    std::vector<const T*> weight;   // per source, `stride` numbers a row
    std::vector<std::vector<T>> padded;
    int64_t stride = 0;
    const Request& request() const { return stage->request; }
    const Neurons& neurons() const { return stage->neurons; }
    bool wants_peak() const { return request().peaks.value != nullptr; }
    bool only_peaks() const { return wants_peak() && !request().from.time && !request().to.time; }
    bool together() const { return neurons().spiking && !wants_peak() && !tonic; }  // crossings are solved together
};

// Pieces of an interval of equal length: the membrane's decay until the end of each, from 1 on, and bounds on the response
// to a unit current within each.
template <class T>
struct Pieces {
    T em[kPieces + 1], top[kPieces];
};

// One sample on its way through a layer. Interval n ends with arrival n, or with the run; the first begins where the run does,
// or goes on with the last one of the run before: its spikes until `told` are known.
template <class T>
struct Passage {
    int64_t sample = 0;
    double told = -kInfinity;
    std::vector<const T*> row;       // the weights of each arrival
    std::vector<double> time;        // where the intervals begin, and the end
    std::vector<T> em, es, g, top;   // their flows; `top` bounds the response to a unit current within
    // Of grown states: the growth where intervals begin, and the end, and its inverse; what j makes of u.
    std::vector<T> grow_m, grow_s, fade_m, fade_s, rise;
    std::vector<T> level;            // what theirs is, if neurons have one, or what each has to be multiplied by
    std::vector<uint8_t> far;        // whether a line of the grid lies within
    std::vector<double> since;       // from the last line to where intervals begin, and the end
    std::vector<int32_t> pieces_of;  // place in `pieces`, or -1
    std::vector<Pieces<T>> pieces;
    std::vector<Spike>* spikes = nullptr;
};

// A block of one passage: where it is.
template <class T>
struct Walk {
    static constexpr int N = kWidest * kLanes<T>;
    alignas(64) T v[N], i[N], next_v[N], next_i[N], level[N];  // between sweeps v and i may be grown
    uint32_t close[kWidest];  // one bit a lane: the bound reached the level
    Passage<T>* passage;
    const Block* block;
    size_t n;  // the interval
    int64_t next_sample;
    std::vector<std::pair<int, int64_t>> sampled;  // (lane, column of the samples)
    int32_t fired[N];
    double free[N];
    Maximum peak[N];
    double begin() const { return passage->time[n]; }
    double end() const { return passage->time[n + 1]; }
    double told(size_t interval) const { return interval == 0 ? passage->told : -kInfinity; }
    int64_t slot(int l, int64_t size) const { return passage->sample * size + block->first + l; }
};

// Lanes of walks whose crossings are solved together.
template <class T>
struct Waiting {
    Pack pack;
    struct Lanes {
        Walk<T>* walk;
        int end;  // in the pack, of those of this walk
    };
    std::vector<Lanes> walks;
    bool full() const { return pack.count + Walk<T>::N > Pack::kRoom; }
};

template <class T>
bool may_spike(const Layer<T>& layer, const Walk<T>& x, int l) {
    const uint8_t* silent = layer.request().silent;
    return layer.neurons().spiking && !(silent && silent[x.slot(l, layer.neurons().size)]);
}

// The value of the bound at which a lane has to be looked at.
template <class T>
void set_level(const Layer<T>& layer, Walk<T>& x, int l, double now) {
    T level = may_spike(layer, x, l) ? layer.level[x.block->first + l] : std::numeric_limits<T>::infinity();
    if (layer.wants_peak()) level = std::min(level, T(x.peak[l].value - kMargin * std::abs(x.peak[l].value)));
    x.level[l] = x.free[l] > now ? -std::numeric_limits<T>::infinity() : level;
}

template <class T>
[[noreturn]] void explode(const Layer<T>& layer, const Walk<T>& x, int l) {
    throw Explosion(x.passage->sample, x.block->first + l, layer.number);
}

// How much a state that is not swept grown, at the place-th time, is to be grown: of v, and of i.
template <class T>
std::pair<double, double> growth(const Layer<T>& layer, const Passage<T>& way, size_t place) {
    if (!layer.grown || way.since[place] == 0) return {1.0, 1.0};
    return {std::exp(layer.neuron[0].a * way.since[place]), std::exp(layer.neuron[0].b * way.since[place])};
}

template <class T>
void start(const Layer<T>& layer, Passage<T>& way, const Block& block, Walk<T>& x) {
    const Request& request = layer.request();
    x.passage = &way, x.block = &block, x.n = 0, x.next_sample = 0;
    const int lanes = block.vectors * kLanes<T>;
    std::fill_n(x.level, lanes, std::numeric_limits<T>::infinity());  // lanes that are not this block's stay so
    std::fill_n(x.v, lanes, T(0)), std::fill_n(x.i, lanes, T(0)), std::fill_n(x.free, lanes, request.begin), std::fill_n(x.fired, lanes, 0);
    std::copy(layer.initial.begin() + block.first, layer.initial.begin() + block.first + block.count, x.v);
    std::copy(layer.level.begin() + block.first + block.skip, layer.level.begin() + block.first + block.count, x.level + block.skip);
    const auto [grow_v, grow_i] = growth(layer, way, 0);
    if (request.start.membrane || request.silent || layer.wants_peak())
        for (int l = block.skip; l < block.count; ++l) {
            const int64_t m = block.first + l;
            const int64_t slot = x.slot(l, layer.neurons().size);
            State s = initial_state(layer.neuron[m], request.start, layer.neurons().leak[m], slot, request.begin);
            x.peak[l] = {request.begin, s.v};
            if (request.from.time) s = request.from[slot];
            x.v[l] = T(s.v * grow_v), x.i[l] = T(s.i * grow_i), x.free[l] = s.free;
            set_level(layer, x, l, x.begin());
        }
    if (layer.grown) {  // lanes that are not this block's never reach a level
        constexpr T never = -std::numeric_limits<T>::infinity();
        std::fill_n(x.v, block.skip, never), std::fill(x.v + block.count, x.v + lanes, never);
    }
    x.sampled.clear();
    for (int64_t c = 0; c < request.sampling.units; ++c) {
        const int64_t l = request.sampling.unit[c] - block.first;
        if (l >= block.skip && l < block.count) x.sampled.emplace_back(int(l), c);
    }
}

template <class T>
void finish(const Layer<T>& layer, const Walk<T>& x) {
    const Request& request = layer.request();
    if (!request.end.membrane && !layer.wants_peak()) return;
    const auto [grow_v, grow_i] = growth(layer, *x.passage, x.n);
    for (int l = x.block->skip; l < x.block->count; ++l) {
        const int64_t slot = x.slot(l, layer.neurons().size);
        const double leak = layer.neurons().leak[x.block->first + l];
        store_state(request.end, slot, {double(x.v[l]) / grow_v, double(x.i[l]) / grow_i, x.free[l]}, leak, request.until);
        if (layer.wants_peak()) request.peaks.time[slot] = x.peak[l].time, request.peaks.value[slot] = x.peak[l].value + leak;
    }
}

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "dense_forward.inl"
#include "each_target.hpp"

namespace spikeloop {
namespace {

// Blocks as wide as can be; the last one reaches back over the one before rather than beyond the end.
template <class T>
void make_blocks(Layer<T>& layer, int widest) {
    const int64_t size = layer.neurons().size;
    layer.stride = size;
    if (size == 0) return;
    for (int64_t done = 0; done < size;) {
        const int64_t left = (size - done + kLanes<T> - 1) / kLanes<T>;
        int vectors = widest;
        for (int smaller : {6, 4, 2, 1})
            if (left <= smaller && smaller < vectors) vectors = smaller;
        const int64_t width = vectors * kLanes<T>, first = done + width <= size ? done : std::max<int64_t>(size - width, 0);
        layer.blocks.push_back({first, int(done - first), int(std::min(width, size - first)), vectors});
        done = first + width;
    }
    for (const auto& source : layer.stage->sources) {
        layer.weight.push_back(source.weight);
        const int64_t width = layer.blocks[0].vectors * kLanes<T>;
        if (width <= size) continue;
        layer.stride = width;
        auto& rows = layer.padded.emplace_back(source.size * width, T(0));
        for (int64_t u = 0; u < source.size; ++u) std::copy_n(source.weight + u * size, size, rows.data() + u * width);
        layer.weight.back() = rows.data();
    }
}

template <class T>
Layer<T> make_layer(const DenseStage<T>& stage, int64_t number) {
    Layer<T> layer;
    layer.stage = &stage, layer.number = number;
    layer.one_tau = stage.neurons.one_tau(), layer.ratio = stage.neurons.ratio();
    const int64_t size = stage.neurons.size;
    layer.neuron.reserve(size), layer.peak.reserve(size), layer.level.reserve(size), layer.initial.reserve(size);
    for (int64_t m = 0; m < size; ++m) {
        const Neuron n = stage.neurons[m];
        layer.neuron.push_back(n);
        layer.peak.push_back(layer.one_tau && m > 0 ? layer.peak[0] : response_peak(n.a, n.b));
        layer.level.push_back(T(stage.neurons.spiking ? n.threshold - kMargin * std::max(std::abs(n.threshold), std::abs(n.reset)) : kInfinity));
        layer.initial.push_back(T(n.initial()));
        layer.tonic |= n.rises_to_threshold();
        layer.alike &= n == layer.neuron[0];
    }
    if (std::is_same_v<T, float> && size > 0 && layer.one_tau && layer.together()) {
        const auto [a, b] = std::pair(layer.neuron[0].a, layer.neuron[0].b);
        layer.grown = std::max(a, b) <= kApart * std::min(a, b), layer.span = kSpan / std::max(a, b);
        layer.one_level = layer.alike && layer.neuron[0].refractory == 0 && !stage.request.silent && !stage.request.start.held;
    }
    make_blocks(layer, layer.one_tau && layer.together() ? kWidest : 1);
    return layer;
}

template <class T>
void prepare(Passage<T>& way, const Layer<T>& layer, int64_t sample, std::vector<SpikesPerSample>& spikes) {
    const Request& request = layer.request();
    way.sample = sample, way.spikes = &spikes[layer.number][sample];
    way.spikes->clear();  // an explosion may have left some
    const auto& sources = layer.stage->sources;
    const size_t most = most_arrivals(sources, spikes, sample);
    way.row.resize(most), way.time.resize(most + 2);
    const size_t count = add_in_order(sources, spikes, sample, request.begin, request.until, [&](size_t n, const Arrival& arrival) {
        way.row[n] = layer.weight[arrival.source] + arrival.unit * layer.stride, way.time[n + 1] = arrival.time;
    });
    way.row.resize(count), way.time.resize(count + 2);
    way.time[0] = request.from.time ? request.from.time[sample * layer.neurons().size] : request.begin;
    way.told = way.time[0] < request.begin ? request.begin : -kInfinity;
    way.time[count + 1] = request.until;
    way.pieces_of.assign(count + 1, -1), way.pieces.clear();
    if (layer.grown)
        SPIKELOOP_BEST(set_growth(way, layer));
    else if (layer.one_tau)
        SPIKELOOP_BEST(set_flows(way, layer.neuron[0].a, layer.neuron[0].b, layer.ratio));
}

// Scratch of one thread.
template <class T>
struct Workshop {
    std::vector<Passage<T>> passages;
    std::vector<Walk<T>> walks;
    std::vector<Walk<T>*> going;
    Waiting<T> waiting;
};

// Samples first .. first + count through one layer.
template <class T>
void pass(const Layer<T>& layer, int64_t first, int64_t count, std::vector<SpikesPerSample>& spikes, Watch& watch) {
    if (layer.neuron.empty()) return;
    Workshop<T>& shop = own<Workshop<T>>();
    if (shop.passages.size() < size_t(count)) shop.passages.resize(count);
    const size_t blocks = layer.blocks.size(), walks = blocks * count;
    if (shop.walks.size() < walks) shop.walks.resize(walks);
    shop.going.clear();
    for (int64_t s = 0; s < count; ++s) {
        prepare(shop.passages[s], layer, first + s, spikes);
        for (size_t b = 0; b < blocks; ++b) {
            Walk<T>& walk = shop.walks[s * blocks + b];
            start(layer, shop.passages[s], layer.blocks[b], walk);
            shop.going.push_back(&walk);
        }
    }
    shop.waiting.walks.clear();  // an explosion may have left some
    shop.waiting.pack.begin(layer.neuron[0], layer.peak[0], layer.ratio, layer.alike);
    while (!shop.going.empty()) {
        size_t kept = 0;
        for (Walk<T>* walk : shop.going) {
            layer.tonic ? watch.look() : watch.glance();  // a walk of those may take long
            if (shop.waiting.full()) SPIKELOOP_BEST(settle(layer, shop.waiting));
            if (SPIKELOOP_BEST(go_on(layer, *walk, shop.waiting)))
                finish(layer, *walk);
            else
                shop.going[kept++] = walk;
        }
        shop.going.resize(kept);
        SPIKELOOP_BEST(settle(layer, shop.waiting));
    }
    for (int64_t s = first; s < first + count; ++s) sort_spikes(spikes[layer.number][s]);
}

// Where groups of samples begin, and the end: of `most` samples, and of fewer towards the end of each thread's share, so that
// threads finish together.
std::vector<int64_t> tapered(int64_t batch, int64_t most, int threads) {
    std::vector<int64_t> first{0};
    for (int64_t thread = 1; thread <= threads; ++thread)
        while (first.back() < thread * batch / threads) {
            const int64_t left = thread * batch / threads - first.back(), part = threads > 1 ? left / 2 : left;
            first.push_back(first.back() + std::min({std::max(part, kFew), most, left}));
        }
    return first;
}

}  // namespace

template <class T>
struct DenseForward<T>::Inside {
    const Request& request;
    std::vector<Layer<T>> layers;
    std::vector<SpikesPerSample>& spikes;
    double work = 0;   // of a sample, ns, a rough guess: crossings, then arrivals at vectors
    int64_t most = 1;  // blocks of a layer
};

template <class T>
DenseForward<T>::DenseForward(const std::vector<DenseStage<T>>& stages)
    : inside_(new Inside{stages[0].request, {}, own<std::vector<SpikesPerSample>>()}) {
    auto& [request, layers, spikes, work, most] = *inside_;
    spikes.resize(stages.size());
    for (SpikesPerSample& stage : spikes) {
        stage.resize(request.batch);
        for (auto& sample : stage) sample.clear();
    }
    for (const DenseStage<T>& stage : stages) {
        layers.push_back(make_layer(stage, int64_t(layers.size())));
        work += 50.0 * double(stage.neurons.size);
        for (const auto& source : stage.sources)
            if (source.stage < 0 && request.batch > 0)
                work += double(source.trains.start[request.batch] - source.trains.start[0]) / double(request.batch) * double(stage.neurons.size / kLanes<T> + 1) * 10;
        most = std::max(most, int64_t(layers.back().blocks.size()));
    }
}

template <class T>
DenseForward<T>::~DenseForward() = default;

template <class T>
const std::vector<SpikesPerSample>& DenseForward<T>::spikes() const {
    return inside_->spikes;
}

template <class T>
void DenseForward<T>::run(int64_t begin, int64_t samples, const Passed& passed) {
    const Inside& all = *inside_;
    const int threads = worthwhile(all.request.threads, all.work * double(samples));
    const int64_t together = std::min(kTogether / all.most, samples / (threads * kGroups));
    const std::vector<int64_t> groups = tapered(samples, std::max<int64_t>(together, 1), threads);
    parallel_for(int64_t(groups.size()) - 1, threads, 1, [&](int64_t group, Watch& watch) {
        const int64_t first = begin + groups[group], count = groups[group + 1] - groups[group];
        const auto all_layers = [&](int64_t from, int64_t number) {
            for (const Layer<T>& layer : inside_->layers) pass(layer, from, number, inside_->spikes, watch);
        };
        try {
            all_layers(first, count);
        } catch (const Explosion&) {  // the first sample of them is to be named
            for (int64_t s = first; s < first + count; ++s) all_layers(s, 1);
            throw;
        }
        if (passed) passed(first, count, watch);
    });
}

template <class T>
const std::vector<SpikesPerSample>& dense_forward(const std::vector<DenseStage<T>>& stages) {
    DenseForward<T> forward(stages);
    forward.run(0, stages[0].request.batch);
    return forward.spikes();
}

template class DenseForward<float>;
template class DenseForward<double>;
template const std::vector<SpikesPerSample>& dense_forward(const std::vector<DenseStage<float>>&);
template const std::vector<SpikesPerSample>& dense_forward(const std::vector<DenseStage<double>>&);

}  // namespace spikeloop
