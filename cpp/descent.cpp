// Where the loss is of peaks, whoever takes samples forward has their loss and takes them back, too: threads need not wait for each
// other before what the samples bring to the weights is added up, and find in their caches what they have just written. First spikes
// have a loss that needs the whole batch: its last spike.
#include "descent.hpp"

#include <atomic>
#include <utility>

#include "simd.hpp"

namespace spikeloop {
namespace {

constexpr double kRoom = 1 << 19;  // bytes for what samples leave until it is added up: it should stay in the cache

// The spikes of a stage, and the loss's derivatives by their times.
struct Sent {
    Spikes spikes;
    std::vector<double> by_time;
    void clear() { by_time.assign(spikes.size() + 1, 0.0); }  // never empty: without a place for it, it would not be wanted
};

// The highest membranes of the readout, (samples, units).
struct Highest {
    std::vector<double> time, value;
    void resize(int64_t size) { time.resize(size), value.resize(size); }
    Peaks peaks() { return {time.data(), value.data()}; }
};

// Some samples of a batch on their way.
template <class T>
struct Group {
    std::vector<Sent> sent;       // by stage
    std::vector<DenseBack<T>> back;
    std::vector<std::vector<MembraneCotangent>> membrane;  // room for those of `back`
    std::vector<double> by_peak;  // the loss's derivative by peaks, where it is of them
    std::vector<uint8_t> silent;  // whether the label's unit is, where the loss is of first spikes
    bool pushes() const { return std::find(silent.begin(), silent.end(), 1) != silent.end(); }
};

// From sample `first` on.
template <class T>
std::vector<DenseStage<T>> stages_of(const Descent<T>& down, int64_t first, int64_t count, Highest& highest) {
    std::vector<DenseStage<T>> out;
    for (const DescentStage<T>& stage : down.stages) {
        Request request;
        request.batch = count, request.until = down.duration, request.silent = stage.silent ? stage.silent + first * stage.neurons.size : nullptr;
        request.spike_limit = down.spike_limit, request.threads = down.threads;
        out.push_back({stage.sources, stage.neurons, request});
        for (DenseSource<T>& source : out.back().sources)
            if (source.stage < 0) source.trains.start += first;
    }
    if (std::holds_alternative<PeaksLoss>(down.loss)) highest.resize(count * down.units()), out[down.readout].request.peaks = highest.peaks();
    return out;
}

// The adjoint of those stages of which a gradient is wanted, or which hear of one, but for what is of samples.
template <class T>
struct Way {
    std::vector<DenseBack<T>> back;
    std::vector<size_t> stage;  // of each
    std::vector<bool> moves;    // of each stage of the descent: whether the times of its spikes matter

    explicit Way(const Descent<T>& down) {
        for (const DescentStage<T>& from : down.stages) {
            bool wanted = std::any_of(from.gradient.begin(), from.gradient.end(), [](const T* weight) { return weight != nullptr; });
            for (const DenseSource<T>& source : from.sources) wanted |= source.stage >= 0 && moves[source.stage];
            moves.push_back(wanted);
            if (!wanted) continue;
            Backward request;
            request.duration = down.duration, request.slope_floor = down.slope_floor, request.want_neuron = false, request.threads = down.threads;
            const std::vector<double*> nowhere(from.sources.size(), nullptr);
            back.push_back({from.sources, from.neurons, request, from.gradient, nowhere, nowhere, {}}), stage.push_back(moves.size() - 1);
        }
    }

    // Makes `group.back`, of samples first .. first + count, with their peaks' times.
    void begin(const Descent<T>& down, Group<T>& group, int64_t first, int64_t count, const double* peak_time) const {
        std::vector<DenseBack<T>>& out = group.back = back;
        for (size_t k = 0; k < out.size(); ++k) {
            for (size_t s = 0; s < out[k].sources.size(); ++s) {
                DenseSource<T>& source = out[k].sources[s];
                const int64_t from = std::exchange(source.stage, -1);
                if (from < 0) {
                    source.trains.start += first;
                    continue;
                }
                source.trains = group.sent[from].spikes.trains();
                if (moves[from]) out[k].source_time[s] = group.sent[from].by_time.data();
            }
            Sent& own = group.sent[stage[k]];
            Backward& request = out[k].request;
            request.batch = count, request.spikes = own.spikes.trains(), request.time_cotangent = own.by_time.data();
            if (out[k].neurons.spiking) request.current = own.spikes.current.get();
            if (int64_t(stage[k]) != down.readout || group.by_peak.empty()) continue;
            request.membrane.swap(group.membrane), request.membrane.resize(count);
            for (auto& sample : request.membrane) sample.clear();
            add_peaks(peak_time, group.by_peak.data(), down.units(), request.membrane);
        }
    }
    // `group` goes, its room stays.
    static void end(Group<T>& group) {
        for (DenseBack<T>& each : group.back)
            if (!each.request.membrane.empty()) group.membrane.swap(each.request.membrane);
    }
};

// Steps of arrays, those of each stage of a way: small ones block by block, as soon as a block's gradient is there, others afterwards.
template <class T>
class Steps {
public:
    Steps(const Learning<T>& learning, const Way<T>& way) : learning_(learning), small_(way.back.size()), large_(way.back.size()) {
        constexpr int64_t kSmall = int64_t(1) << 18;  // numbers: beyond, blocks of columns would be far apart, and not in a cache
        for (size_t k = 0; k < way.back.size(); ++k)
            for (size_t s = 0; s < way.back[k].sources.size(); ++s)
                for (Moments<T> of : learning.arrays) {
                    if (of.gradient != way.back[k].weight[s]) continue;
                    const int64_t count = of.count();
                    of.rows = way.back[k].sources[s].size, of.columns = way.back[k].neurons.size;
                    if (of.count() != count) throw std::invalid_argument("weights and their gradients are of different sizes");
                    (count <= kSmall ? small_ : large_)[k].push_back(of);
                }
    }

    // Step `number` of small arrays, whenever a block of `back` is summed.
    void begin(std::vector<DenseBack<T>>& back, int64_t number) {
        number_ = number;
        for (size_t k = 0; k < back.size(); ++k)
            if (!small_[k].empty())
                back[k].summed = [this, k](int64_t first, int count) {
                    for (const Moments<T>& of : small_[k]) {
                        if (!update(learning_.adam, now(of), rate(), first, count)) finite_ = false;
                        for (int64_t row = 0; row < of.rows; ++row) std::fill_n(of.gradient + row * of.columns + first, count, T(0));
                    }
                };
    }
    // And of the others.
    void end(int threads) {
        for (const auto& stage : large_)
            for (const Moments<T>& of : stage) {
                if (!update(learning_.adam, now(of), rate(), threads)) finite_ = false;
                std::fill_n(of.gradient, of.count(), T(0));
            }
    }
    bool finite() const { return finite_; }

private:
    double rate() const { return learning_.rate[number_]; }
    Moments<T> now(Moments<T> of) const {
        of.steps += double(number_);
        return of;
    }
    const Learning<T>& learning_;
    std::vector<std::vector<Moments<T>>> small_, large_;
    int64_t number_ = 0;
    std::atomic<bool> finite_{true};
};

// One batch after the other, on its way down and back.
template <class T>
class Batches {
public:
    explicit Batches(const Descent<T>& down) : down_(down), way_(down) {
        if (down.learning) steps_.emplace(*down.learning, way_);
    }

    // The batch from sample `first` on, step `number`; whether the weights are numbers after it.
    bool take(int64_t first, int64_t count, int64_t number, Descended& out) {
        try {
            const bool in_groups = std::holds_alternative<PeaksLoss>(down_.loss) && !down_.tell;
            in_groups ? by_groups(first, count, number, out) : as_a_whole(first, count, number, out);
        } catch (...) {
            for (const DenseBack<T>& stage : way_.back)  // what has been added to gradients so far is forgotten
                for (size_t s = 0; s < stage.sources.size(); ++s)
                    if (stage.weight[s]) std::fill_n(stage.weight[s], stage.sources[s].size * stage.neurons.size, T(0));
            throw;
        }
        return !steps_ || steps_->finite();
    }

private:
    void as_a_whole(int64_t first, int64_t count, int64_t number, Descended& out) {
        const auto stages = stages_of(down_, first, count, highest_);
        const auto& found = dense_forward<T>(stages);
        Group<T> group;
        for (size_t k = 0; k < stages.size(); ++k)
            group.sent.push_back({collect(found[k], stages[k].neurons.size, nullptr, down_.threads, kWithCurrents), {}}), group.sent.back().clear();
        Told told;
        if (std::holds_alternative<PeaksLoss>(down_.loss)) {
            std::vector<Told> each(count);
            by_peaks(group, first, count, 0, 1.0 / double(count), each.data());
            told = mean(each);
        } else {
            told = by_first_spikes(group, first, count);
        }
        const bool pushes = group.pushes();
        out.waits = down_.tell || !steps_ || pushes;
        way_.begin(down_, group, first, count, highest_.time.data());
        auto& back = group.back;
        if (!out.waits) steps_->begin(back, number);
        if (!back.empty()) dense_adjoint<T>(back);
        if (!out.waits) steps_->end(down_.threads);
        add_slopes(back, out);
        out.told.push_back(told);
        if (!down_.tell && !pushes) return;
        for (Sent& each : group.sent) out.spikes.push_back(std::move(each.spikes));
        if (pushes) out.silent = std::move(group.silent);
    }

    void by_groups(int64_t first, int64_t count, int64_t number, Descended& out) {
        out.waits = !steps_;
        std::vector<DenseBack<T>> all = way_.back;
        if (steps_) steps_->begin(all, number);
        if (!adjoint_) adjoint_.emplace(way_.back), bytes_ = guess(first, count);
        std::vector<Told> each(count);
        const auto stages = stages_of(down_, first, count, highest_);
        DenseForward<T> forward(stages);
        for (int64_t begin = 0, end; begin < count; begin = end) {
            end = begin + Parts(count - begin, std::max<int64_t>(int64_t(kRoom / bytes_), 2 * down_.threads), 1).size(0);
            adjoint_->begin(end - begin);
            forward.run(begin, end - begin, [&](int64_t at, int64_t samples, Watch& watch) {
                Group<T>& group = own<Group<T>>();
                find(forward.spikes(), at, samples, group);
                by_peaks(group, first + at, samples, at, 1.0 / double(count), each.data() + at);
                way_.begin(down_, group, first + at, samples, highest_.time.data() + at * down_.units());
                if (!group.back.empty()) adjoint_->take_back(group.back, at - begin, watch);
                way_.end(group);
            });
            bytes_ = std::max(adjoint_->bytes() / double(end - begin), 1.0);
            adjoint_->add_up(all, down_.threads, end == count);
        }
        if (steps_) steps_->end(down_.threads);
        add_slopes(all, out);
        out.told.push_back(mean(each));
    }

    // Bytes that a sample leaves, if every neuron spikes once.
    double guess(int64_t first, int64_t count) const {
        double bytes = 1;
        for (const DenseBack<T>& stage : way_.back) {
            const double modes = stage.neurons.one_tau() ? 1 : double(stage.neurons.size + kLanes<T>);
            for (const DenseSource<T>& source : stage.sources) {
                const int64_t* start = source.trains.start + first;
                const double arrivals = source.stage >= 0 ? double(source.size) : double(start[count] - start[0]) / double(count);
                bytes += arrivals * (sizeof(T*) + 2 * sizeof(T) * modes);
            }
            bytes += 16.0 * double(stage.neurons.size);
        }
        return bytes;
    }

    // Samples of a batch from `at` on.
    static void find(const std::vector<SpikesPerSample>& spikes, int64_t at, int64_t samples, Group<T>& group) {
        group.sent.resize(spikes.size());
        for (size_t k = 0; k < spikes.size(); ++k) {
            const auto* mine = spikes[k].data() + at;
            Sent& sent = group.sent[k];
            sent.spikes.make(samples, [&](int64_t s) { return mine[s].size(); }, kWithCurrents), sent.clear();
            for (int64_t s = 0; s < samples; ++s) sent.spikes.put(s, mine[s]);
        }
    }

    // What samples tell, and the loss's derivatives by their peaks, which stand from `place` on. `weight`: of a sample in the mean.
    void by_peaks(Group<T>& group, int64_t first, int64_t count, int64_t place, double weight, Told* told) const {
        for (const Sent& each : group.sent)
            for (int64_t s = 0; s < count; ++s) told[s].spikes += each.spikes.trains().size(s);
        const int64_t units = down_.units(), *label = down_.label + first;
        const double* peak = highest_.value.data() + place * units;
        group.by_peak.resize(count * units);
        cross_entropies(peak, count, units, label, std::get<PeaksLoss>(down_.loss).scale, weight, group.by_peak.data(),
                        [&](int64_t s, double loss) { told[s].loss = loss; });
        for (int64_t s = 0; s < count; ++s, peak += units) told[s].right = std::max_element(peak, peak + units) - peak == label[s];
    }

    // What a whole batch tells.
    Told by_first_spikes(Group<T>& group, int64_t first, int64_t count) const {
        Sent& sent = group.sent[down_.readout];
        const Trains t = sent.spikes.trains();
        const int64_t* label = down_.label + first;
        group.silent.resize(count);
        Told told;
        told.loss = std::get<FirstSpikeLoss>(down_.loss)(t, count, down_.units(), label, group.silent.data(), sent.by_time.data());
        for (int64_t s = 0; s < count; ++s) told.right += t.size(s) > 0 && t.unit[t.start[s]] == label[s];
        for (const Sent& each : group.sent) told.spikes += each.spikes.size();
        return told;
    }

    static Told mean(const std::vector<Told>& each) {
        Told all;
        for (const Told& sample : each) all.loss += sample.loss, all.right += sample.right, all.spikes += sample.spikes;
        all.loss *= 1.0 / double(std::max<size_t>(each.size(), 1));
        return all;
    }
    static void add_slopes(const std::vector<DenseBack<T>>& back, Descended& out) {
        for (const DenseBack<T>& each : back) out.slope.spikes += each.slope.spikes, out.slope.acted += each.slope.acted;
    }

    static constexpr bool kWithCurrents = std::is_same_v<T, float>;
    const Descent<T>& down_;
    Way<T> way_;
    std::optional<DenseAdjoint<T>> adjoint_;  // of batches that go by groups
    std::optional<Steps<T>> steps_;
    Highest highest_;
    double bytes_ = 0;  // that a sample leaves, as far as is known
};

template <class T>
void check(const Descent<T>& down) {
    bool fits = down.readout >= 0 && down.readout < int64_t(down.stages.size());
    for (size_t k = 0; k < down.stages.size(); ++k)
        for (const DenseSource<T>& source : down.stages[k].sources) fits &= source.stage < int64_t(k) && (source.stage >= 0 || source.trains.start);
    if (!fits) throw std::invalid_argument("stages do not belong together");
    if (down.size < 1) throw std::invalid_argument("a batch without samples");
}

}  // namespace

template <class T>
Descended descend(const Descent<T>& down) {
    check(down);
    const int64_t units = down.units();
    const auto names_a_unit = [=](int64_t unit) { return unit >= 0 && unit < units; };
    Descended out;
    out.slope.floor = down.slope_floor;
    Batches<T> batches(down);
    for (int64_t first = 0; first < down.samples && !out.waits; first += down.size) {
        const int64_t count = std::min(down.size, down.samples - first);
        if (!std::all_of(down.label + first, down.label + first + count, names_a_unit)) break;
        try {
            if (!batches.take(first, count, int64_t(out.told.size()), out)) break;
        } catch (const Explosion&) {
            if (out.told.empty()) throw;
            break;
        }
    }
    return out;
}

template Descended descend(const Descent<float>&);
template Descended descend(const Descent<double>&);

}  // namespace spikeloop
