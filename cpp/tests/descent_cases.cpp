// Steps of training in one call: as the passes, the loss and Adam one after the other.
#include <cmath>

#include "checks.hpp"
#include "descent.hpp"
#include "problem.hpp"

namespace spikeloop::tests {
namespace {

constexpr Adam kAdam{0.9, 0.999, 1e-8, 0, false};

// Weights, with what Adam keeps of them.
template <class T>
struct Kept {
    int64_t rows, columns;
    std::vector<T> weight, mean, square, gradient;
    Kept(int64_t rows, int64_t columns, std::mt19937_64& random, double low, double high)
        : rows(rows), columns(columns), mean(rows * columns), square(rows * columns), gradient(rows * columns) {
        for (int64_t k = 0; k < rows * columns; ++k) weight.push_back(T(std::uniform_real_distribution<double>(low, high)(random)));
        weight.shrink_to_fit();
    }
    Moments<T> moments(double steps) { return {weight.data(), mean.data(), square.data(), gradient.data(), rows, columns, steps}; }
    bool operator==(const Kept& o) const { return weight == o.weight && mean == o.mean && square == o.square && gradient == o.gradient; }
};

struct Size {
    int64_t inputs = 9, hidden = 21, units = 3, samples = 23, size = 6, events = 25;
    bool spiking_readout = false;
};

// Neurons all alike.
struct Alike {
    std::vector<double> tau_mem, tau_syn, threshold, leak, reset, refractory;
    bool spiking;
    Alike(int64_t size, bool spiking) : tau_mem(size, 20e-3), tau_syn(size, 5e-3), threshold(size, 1.0), leak(size, 0.0), reset(size, 0.0), refractory(size, 0.0), spiking(spiking) {}
    Neurons neurons() const {
        return {int64_t(tau_mem.size()), tau_mem.data(), tau_syn.data(), threshold.data(), leak.data(), reset.data(), refractory.data(), spiking};
    }
};

// Two layers, and batches to learn from.
template <class T>
struct Network {
    Size is;
    std::mt19937_64 random{11};
    double no_delay = 0;
    Alike hidden, readout;
    Kept<T> first, second;
    Batch drive;
    std::vector<int64_t> label;
    std::vector<double> rate;

    explicit Network(const Size& is)
        : is(is), hidden(is.hidden, true), readout(is.units, is.spiking_readout), first(is.inputs, is.hidden, random, -1.0, 3.0),
          second(is.hidden, is.units, random, is.spiking_readout ? 1.0 : -0.5, 2.0),
          drive(random_batch(random, 2 * is.samples, is.inputs, is.events, 50e-3)) {
        for (int64_t s = 0; s < is.samples; ++s) label.push_back(int64_t(random() % is.units)), rate.push_back(0.01 / double(s + 1));
        label.shrink_to_fit();
    }

    std::vector<DescentStage<T>> stages() {
        DenseSource<T> inwards{drive.trains(), is.inputs, first.weight.data(), &no_delay, false}, onwards{{}, is.hidden, second.weight.data(), &no_delay, false, 0};
        if (is.spiking_readout) inwards.trains.start += is.samples;  // the first ones have few events: units would be silent
        return {{{inwards}, hidden.neurons(), nullptr, {first.gradient.data()}}, {{onwards}, readout.neurons(), nullptr, {second.gradient.data()}}};
    }
    Descent<T> descent(int threads) {
        Descent<T> down{stages(), is.samples, is.size, 60e-3, 1000, PeaksLoss{3.0}, 1, label.data(), 1e-3, false, threads, {}};
        if (is.spiking_readout) down.loss = FirstSpikeLoss{1e-3, 6e-3, 1e-2, 20};
        down.learning = Learning<T>{kAdam, rate.data(), {first.moments(0), second.moments(0)}};
        return down;
    }
    bool operator==(const Network& o) const { return first == o.first && second == o.second; }
};

bool same(const std::vector<Told>& x, const std::vector<Told>& y) {
    bool all = x.size() == y.size();
    for (size_t k = 0; all && k < x.size(); ++k) all = x[k].loss == y[k].loss && x[k].right == y[k].right && x[k].spikes == y[k].spikes;
    return all;
}

// The same steps, each a batch for itself whose gradients wait and whose spikes are told.
template <class T>
std::vector<Told> one_by_one(Network<T>& x) {
    std::vector<Told> told;
    for (int64_t first = 0; first < x.is.samples; first += x.is.size) {
        Descent<T> down = x.descent(1);
        down.learning.reset(), down.tell = true, down.samples = std::min(x.is.size, x.is.samples - first);
        down.stages[0].sources[0].trains.start += first, down.label += first;
        const Descended found = descend(down);
        CHECK(found.waits && found.told.size() == 1 && found.spikes.size() == 2);
        CHECK(found.spikes[0].size() + found.spikes[1].size() == found.told[0].spikes);
        for (Kept<T>* kept : {&x.first, &x.second}) {
            CHECK(update(kAdam, kept->moments(double(told.size())), x.rate[told.size()], 1));
            std::fill(kept->gradient.begin(), kept->gradient.end(), T(0));
        }
        told.push_back(found.told[0]);
    }
    return told;
}

template <class T>
void steps_are_those_of_batches() {
    Size wide;  // more numbers than are updated block by block
    wide.inputs = 260, wide.hidden = 1100, wide.events = 300, wide.samples = 13;
    Size many;  // more samples than a slab has
    many.samples = 1400, many.size = 1200;
    Size spiking;
    spiking.spiking_readout = true, spiking.events = 60;
    for (const Size& is : {Size{}, Size{7, 130, 10, 40, 40, 30, false}, wide, many, spiking})
        for (const int threads : {1, 3}) {
            Network<T> x(is), y(is), start(is);
            const Descended found = descend(x.descent(threads));
            std::vector<Told> told = one_by_one(y);
            CHECK(!found.waits && same(found.told, told) && x == y);
            CHECK(x.first.weight != start.first.weight && x.second.weight != start.second.weight);
        }
}

void a_silent_unit_ends_a_run() {
    Size is;
    is.spiking_readout = true;
    Network<float> x(is), y(is);
    Descent<float> down = x.descent(2), told = y.descent(1);
    down.stages[0].sources[0].trains.start -= is.samples, told.stages[0].sources[0].trains.start -= is.samples;
    told.learning.reset(), told.tell = true;
    const Descended found = descend(down), other = descend(told);
    CHECK(found.waits && same(found.told, other.told) && x == y);
    CHECK(found.spikes.size() == 2 && found.silent.size() == size_t(is.size) && found.silent[0] == 1 && found.silent == other.silent);
}

void gradients_wait_where_nobody_learns() {
    Size is;
    is.events = 300;
    Network<float> x(is), y(is);
    Descent<float> down = x.descent(2), told = y.descent(1);
    down.learning.reset(), told.learning.reset(), told.tell = true;
    const Descended found = descend(down), other = descend(told);
    CHECK(found.waits && same(found.told, other.told) && x == y && found.spikes.empty() && found.silent.empty());
    CHECK(x.first.gradient != std::vector<float>(x.first.gradient.size()));
}

// A run ends before a batch that fails; the weights are those of the steps before, and no gradient is left.
template <class Spoil>
void ends_before(Spoil&& spoil) {
    Network<float> x({}), y({});
    y.is.samples = 2 * y.is.size;
    descend(y.descent(1));
    Descent<float> down = x.descent(2);
    spoil(x, down);
    const Descended found = descend(down);
    CHECK(found.told.size() == 2 && !found.waits && x == y);
}

void failures_end_a_run_between_two_steps() {
    ends_before([](Network<float>& x, Descent<float>&) { x.label[2 * x.is.size + 1] = x.is.units; });
    ends_before([](Network<float>& x, Descent<float>&) { x.label[2 * x.is.size] = -1; });
    Network<float> limited({});
    limited.is.samples = 2 * limited.is.size;
    Descent<float> calm = limited.descent(1);
    calm.spike_limit = 1;  // the first batches have too few events to reach it
    CHECK(descend(calm).told.size() == 2);
    ends_before([](Network<float>&, Descent<float>& down) { down.spike_limit = 1; });
    Network<float> bad({});
    bad.label[0] = 7;
    CHECK(descend(bad.descent(1)).told.empty());
    Size is;  // in several slabs
    is.events = 60, is.samples = is.size = 1300;
    for (const int64_t from : {0, 900}) {  // which sample is named does not depend on who finds it, or on slabs
        Network<float> x(is), y(is);
        for (Network<float>* each : {&x, &y})
            for (int64_t e = 0; e < each->drive.start[from]; ++e) each->drive.time[e] = 61e-3;  // after the end
        Descent<float> down = x.descent(2), told = y.descent(1);
        down.spike_limit = told.spike_limit = 0, told.learning.reset(), told.tell = true;
        const auto exploding = [](const Descent<float>& each) {
            try {
                descend(each);
            } catch (const Explosion& e) {
                return e.stage == 0 ? e.sample : -1;
            }
            return int64_t(-2);
        };
        const int64_t named = exploding(down);
        CHECK(named >= from && named == exploding(told) && x == y);
    }
}

// Whoever interrupts a run in the middle of a step finds weights of whole steps, and no gradient.
void an_interrupted_run_leaves_whole_steps() {
    Size is;
    is.inputs = 200, is.hidden = 300, is.events = 1200, is.samples = 60, is.size = 20;
    Network<float> whole(is), none(is);
    const size_t steps = descend(whole.descent(2)).told.size();
    CHECK(steps == 3);
    Network<float> parts[] = {none, none};
    for (int64_t done = 1; done <= 2; ++done) {
        parts[done - 1].is.samples = done * is.size;
        descend(parts[done - 1].descent(1));
    }
    for (int asked = 0; asked < 4; ++asked) {  // the engine asks every 50 ms
        Network<float> x(is);
        const auto before = interrupt_check();
        int left = asked;
        interrupt_check() = [&] { return left-- == 0; };
        bool ended = false;
        try {
            descend(x.descent(2));
        } catch (const Interrupted&) {
            ended = true;
        }
        interrupt_check() = before;
        CHECK(x.first.gradient == std::vector<float>(x.first.gradient.size()));
        CHECK(ended ? x == none || x == parts[0] || x == parts[1] : x == whole);  // or it was quicker
    }
}

void nonsense_is_refused() {
    Network<float> x({});
    const auto refused = [](const Descent<float>& down) {
        try {
            descend(down);
        } catch (const std::invalid_argument&) {
            return true;
        }
        return false;
    };
    Descent<float> down = x.descent(1);
    down.readout = 2;
    CHECK(refused(down));
    down = x.descent(1), down.size = 0;
    CHECK(refused(down));
    for (const int64_t stage : {1, -1}) {
        down = x.descent(1), down.stages[1].sources[0].stage = stage;
        CHECK(refused(down));
    }
    down = x.descent(1), down.learning->arrays[0].columns -= 1;
    CHECK(refused(down));
}

}  // namespace

std::vector<Case> descent_cases() {
    return {{"steps are those of batches, float", steps_are_those_of_batches<float>},
            {"steps are those of batches, double", steps_are_those_of_batches<double>},
            {"a silent unit ends a run", a_silent_unit_ends_a_run},
            {"gradients wait where nobody learns", gradients_wait_where_nobody_learns},
            {"failures end a run between two steps", failures_end_a_run_between_two_steps},
            {"an interrupted run leaves whole steps", an_interrupted_run_leaves_whole_steps},
            {"nonsense is refused", nonsense_is_refused}};
}

}  // namespace spikeloop::tests
