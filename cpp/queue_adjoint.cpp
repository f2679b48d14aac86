// Adjoint of the event queue: the record's spikes and arrivals in one sorted list, replayed forwards for the currents and
// undone backwards. Both passes touch a neuron only when something happened to it.
#include <memory>

#include "marks.hpp"
#include "queue.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int64_t kBufferBytes = int64_t(64) << 20, kChunks = 16;

// A mark of neuron `unit` (source < 0) or an arrival of event `event` at synapses first .. last in order of arrival.
struct Item {
    double time;
    int32_t source, unit;
    int64_t event, first, last;
    bool own;  // the event is a spike of this stage, not of a train
};

template <class T>
struct Shared {
    const std::vector<QueueSource<T>>& sources;
    const std::vector<QueuePopulation>& populations;
    const std::vector<QueueBackward>& cotangents;
    const QueueAdjointRequest& request;
    std::vector<std::vector<int64_t>> order;
    std::vector<Neuron> neuron;
    std::vector<int32_t> population, feeding;  // of each neuron; of each internal source
    std::vector<std::vector<int32_t>> driven;  // of each population: the sources with a driver that its spikes feed
};

// Sums over a chunk of samples.
template <class T>
struct Sums {
    std::vector<std::vector<T>> weight;       // per source
    std::vector<std::vector<double>> delay;
    std::vector<NeuronGradient> neuron;
    SlopeFloor slope{0};
};

template <class T>
class Undo {
  public:
    Undo(const Shared<T>& shared, const QueueGradient<T>& wanted, Sums<T>& sums) : s_(shared), wanted_(wanted), sums_(sums) {}

    void operator()(int64_t sample, Watch& watch) {
        sample_ = sample;
        start();
        make_marks();
        make_items();
        start_drivers();
        replay(watch);
        undo(watch);
    }

  private:
    struct Kink {
        double time = -1, value = 0;
    };

    void start() {
        const size_t size = s_.neuron.size();
        state_.resize(size), adjoint_.assign(size, {}), time_.assign(size, 0.0), held_.assign(size, 0), kink_.assign(size, {});
        marks_.resize(size);
        for (auto& marks : marks_) marks.clear();
        items_.clear(), tape_.clear();
        for (const auto& p : s_.populations) {
            for (int64_t m = p.first; m < p.first + p.neurons.size; ++m) {
                state_[m] = p.initial(sample_, m, s_.neuron[m]);
                held_[m] = state_[m].free > 0;
                add_start_mark(marks_[m], state_[m].free, s_.request.duration);
            }
        }
        begin_ = state_;
    }

    void make_marks() {
        const double begin = s_.request.begin, duration = s_.request.duration;
        for (size_t p = 0; p < s_.populations.size(); ++p) {
            const auto& c = s_.cotangents[p];
            const int64_t first = s_.populations[p].first;
            for (int64_t e = c.spikes.start[sample_]; e < c.spikes.start[sample_ + 1]; ++e) {
                const int64_t m = first + c.spikes.unit[e];
                add_spike_marks(marks_[m], c.spikes.time[e] - begin, e, s_.neuron[m], duration);
            }
            if (c.membrane.empty()) continue;
            std::vector<size_t> spike_marks(s_.populations[p].neurons.size);
            for (size_t l = 0; l < spike_marks.size(); ++l) spike_marks[l] = marks_[first + l].size();
            for (const auto& membrane : c.membrane[sample_]) {
                const int64_t m = first + membrane.unit;
                add_membrane_mark(marks_[m], spike_marks[membrane.unit], membrane, begin, begin_[m].free, sums_.neuron[m].threshold);
            }
            for (size_t l = 0; l < spike_marks.size(); ++l) sort_marks(marks_[first + l]);
        }
    }

    void add_arrivals(int32_t k, const Trains& trains, bool own) {
        const auto& source = s_.sources[k];
        const auto& order = s_.order[k];
        const auto add = [&](double time, int32_t unit, int64_t e, int64_t first, int64_t last) {
            const double begin = s_.request.begin;
            if (time >= begin && time < begin + s_.request.duration && last > first) items_.push_back({time - begin, k, unit, e, first, last, own});
        };
        for (int64_t e = trains.start[sample_]; e < trains.start[sample_ + 1]; ++e) {
            const int32_t unit = trains.unit[e];
            const int64_t first = source.begin[unit], last = source.begin[unit + 1];
            if (source.delays != Delay::per_synapse)
                add(trains.time[e] + source.delay_of(unit, first), unit, e, first, last);
            else
                for (int64_t p = first; p < last; ++p) add(trains.time[e] + source.delay[order[p]], unit, e, p, p + 1);
        }
    }

    void make_items() {
        for (size_t m = 0; m < marks_.size(); ++m)
            for (size_t k = 0; k < marks_[m].size(); ++k) items_.push_back({marks_[m][k].time, -1, int32_t(m), int64_t(k), 0, 0, false});
        for (size_t k = 0; k < s_.sources.size(); ++k) {
            if (s_.sources[k].trains.start) add_arrivals(int32_t(k), s_.sources[k].trains, false);
            if (s_.sources[k].internal) add_arrivals(int32_t(k), s_.cotangents[s_.feeding[k]].spikes, true);
        }
        std::stable_sort(items_.begin(), items_.end(), [](const Item& x, const Item& y) {
            return x.time < y.time || (x.time == y.time && (x.source < 0) > (y.source < 0));
        });
    }

    int64_t target(const Item& item, int64_t position) const {
        const auto& source = s_.sources[item.source];
        return source.first_target + source.target[s_.order[item.source][position]];
    }

    double size_of(const Item& item) const {
        const Driver& driver = s_.sources[item.source].driver;
        return !driver ? 1.0 : item.own ? driver.size[item.event] : driver.recent[item.event];
    }

    double* time_gradient(const Item& item) {
        if (item.own) return s_.cotangents[s_.feeding[item.source]].time_cotangent + item.event;
        double* time = wanted_.time[item.source];
        return time ? time + item.event : nullptr;
    }

    void go_to(int64_t m, double time) {
        if (time == time_[m]) return;
        const Flow f = flow(time - time_[m], s_.neuron[m].a, s_.neuron[m].b);
        if (!held_[m]) state_[m].v = state_[m].v * f.em + state_[m].i * f.g;
        state_[m].i *= f.es;
        time_[m] = time;
    }

    void remember(int64_t m) {
        if (s_.request.want_tau) tape_.push_back(state_[m]);
    }

    void replay(Watch& watch) {
        for (const Item& item : items_) {
            watch.glance();
            if (item.source < 0) {
                replay_mark(item.unit, marks_[item.unit][item.event]);
                continue;
            }
            const auto& source = s_.sources[item.source];
            for (int64_t position = item.first; position < item.last; ++position) {
                const int64_t m = target(item, position), synapse = s_.order[item.source][position];
                go_to(m, item.time);
                if (kink_[m].time == item.time) {
                    move_arrival(item, synapse, kink_[m].value);
                    kink_[m].time = -1;
                }
                state_[m].i += size_of(item) * source.weight[source.weight_of(synapse)];
                remember(m);
            }
        }
    }

    void move_arrival(const Item& item, int64_t synapse, double value) {
        if (double* time = time_gradient(item)) *time += value;
        if (wanted_.delay[item.source]) sums_.delay[item.source][synapse] += value;
    }

    void replay_mark(int64_t m, Mark& mark) {
        go_to(m, mark.time);
        mark.i = state_[m].i;
        if (mark.kind == MarkKind::spike) state_[m].v = s_.neuron[m].reset;
        held_[m] = mark.held_after(held_[m]);
        if (mark.peak) kink_[m] = {mark.time, mark.cotangent * s_.neuron[m].a * (mark.i - state_[m].v)};
        remember(m);
    }

    // Take neuron m's adjoint back to `time`, right after what happened there.
    void back_to(int64_t m, double time, const State& start) {
        const Neuron& n = s_.neuron[m];
        const double wait = time_[m] - time;
        if (held_[m])
            flow_back_held(n, adjoint_[m], wait, std::exp(-n.b * wait), start.i, sums_.neuron[m]);
        else
            flow_back_free(n, adjoint_[m], wait, flow(wait, n.a, n.b), start.v, start.i, s_.request.want_tau, sums_.neuron[m]);
        time_[m] = time;
    }

    State recall() {
        if (!s_.request.want_tau) return {0, 0};
        const State s = tape_.back();
        tape_.pop_back();
        return s;
    }

    void undo(Watch& watch) {
        std::fill(time_.begin(), time_.end(), s_.request.duration);
        for (size_t n = items_.size(); n-- > 0;) {
            watch.glance();
            const Item& item = items_[n];
            if (item.source >= 0) {
                undo_arrival(item);
                continue;
            }
            const int64_t m = item.unit;
            back_to(m, item.time, recall());
            bool held = held_[m];
            const Mark& mark = marks_[m][item.event];
            if (mark.kind == MarkKind::spike)
                for (int32_t k : s_.driven[s_.population[m]]) undo_use(k, int32_t(m - s_.sources[k].first_source), mark.spike);
            mark_back(s_.neuron[m], marks_[m][item.event], adjoint_[m], held, s_.cotangents[s_.population[m]].time_cotangent,
                      sums_.slope, sums_.neuron[m]);
            held_[m] = held;
        }
        for (size_t m = 0; m < s_.neuron.size(); ++m) {
            back_to(m, 0.0, begin_[m]);
            start_back(s_.neuron[m], adjoint_[m], s_.populations[s_.population[m]].start.membrane != nullptr, sums_.neuron[m]);
        }
    }

    void undo_arrival(const Item& item) {
        const auto& source = s_.sources[item.source];
        auto& weight = sums_.weight[item.source];
        auto& delay = sums_.delay[item.source];
        const double size = size_of(item);
        double moved = 0, by_size = 0;
        for (int64_t position = item.last; position-- > item.first;) {
            const int64_t m = target(item, position), synapse = s_.order[item.source][position], w = source.weight_of(synapse);
            back_to(m, item.time, recall());
            const Adjoint& l = adjoint_[m];
            if (!weight.empty()) weight[w] -= T(size * l.i / s_.neuron[m].b);
            by_size -= source.weight[w] * l.i / s_.neuron[m].b;
            const double e = size * source.weight[w] * (l.v - l.i);
            if (!delay.empty()) delay[synapse] += e;
            moved += e;
        }
        if (double* time = time_gradient(item)) *time += moved;
        if (source.driver && item.own) by_size_[item.source][item.event - first_event(item.source)] += by_size;
    }

    int64_t first_event(int32_t k) const { return s_.cotangents[s_.feeding[k]].spikes.start[sample_]; }

    // The size of a spike's event follows from its time and those before: back through the recovery. All that the events of
    // this unit after it had to say is in `later_`: by x right after this one, and by the time of it.
    void undo_use(int32_t k, int32_t unit, int64_t spike) {
        const Driver& driver = s_.sources[k].driver;
        auto& [by_x, by_time] = later_[k][unit];
        const double here = driver.event.slope[unit] * by_size_[k][spike - first_event(k)] + by_x;
        s_.cotangents[s_.feeding[k]].time_cotangent[spike] += here * driver.slope[spike] - by_time;
        by_x = here * driver.kept[spike], by_time = here * driver.slope[spike];
    }

    void start_drivers() {
        by_size_.resize(s_.sources.size()), later_.resize(s_.sources.size());
        for (size_t k = 0; k < s_.sources.size(); ++k) {
            if (!s_.sources[k].driver) continue;
            const auto& spikes = s_.cotangents[s_.feeding[k]].spikes;
            by_size_[k].assign(spikes.start[sample_ + 1] - spikes.start[sample_], 0.0);
            later_[k].assign(s_.sources[k].size, {0.0, 0.0});
        }
    }

    const Shared<T>& s_;
    const QueueGradient<T>& wanted_;
    Sums<T>& sums_;
    int64_t sample_ = 0;
    std::vector<State> state_, begin_, tape_;
    std::vector<Adjoint> adjoint_;
    std::vector<double> time_;
    std::vector<char> held_;
    std::vector<Kink> kink_;
    std::vector<std::vector<Mark>> marks_;
    std::vector<Item> items_;
    std::vector<std::vector<double>> by_size_;                   // per source with a driver: dL/d(size) of the sample's spikes
    std::vector<std::vector<std::pair<double, double>>> later_;  // likewise, of each unit
};

template <class T>
Shared<T> share(const std::vector<QueueSource<T>>& sources, const std::vector<QueuePopulation>& populations,
                const std::vector<QueueBackward>& cotangents, const QueueAdjointRequest& request) {
    Shared<T> shared{sources, populations, cotangents, request, {}, {}, {}, {}, {}};
    shared.driven.resize(populations.size());
    for (const auto& source : sources) {
        shared.order.push_back(order_of_arrival(source));
        int32_t feeding = -1;
        for (size_t p = 0; p < populations.size(); ++p)
            if (source.internal && populations[p].first == source.first_source && populations[p].neurons.size) feeding = int32_t(p);
        shared.feeding.push_back(feeding);
        if (source.driver && feeding >= 0) shared.driven[feeding].push_back(int32_t(shared.feeding.size()) - 1);
    }
    for (size_t p = 0; p < populations.size(); ++p)
        for (int64_t l = 0; l < populations[p].neurons.size; ++l) {
            shared.neuron.push_back(populations[p].neurons[l]);
            shared.population.push_back(int32_t(p));
        }
    return shared;
}

template <class T>
Sums<T> empty_sums(const std::vector<QueueSource<T>>& sources, const QueueGradient<T>& wanted, const QueueAdjointRequest& request) {
    Sums<T> sums;
    sums.slope = {request.slope_floor};
    sums.neuron.resize(request.size);
    for (size_t k = 0; k < sources.size(); ++k) {
        sums.weight.emplace_back(wanted.weight[k] ? sources[k].weights : 0);
        sums.delay.emplace_back(wanted.delay[k] ? sources[k].begin[sources[k].size] : 0);
    }
    return sums;
}

}  // namespace

template <class T>
void queue_adjoint(const std::vector<QueueSource<T>>& sources, const std::vector<QueuePopulation>& populations,
                   const std::vector<QueueBackward>& cotangents, const QueueAdjointRequest& request, QueueGradient<T>& gradient) {
    gradient.neuron.assign(request.size, {});
    const Shared<T> shared = share(sources, populations, cotangents, request);
    int64_t values = request.size + 1;
    for (const auto& source : sources) values += source.weights + source.begin[source.size];
    const int64_t chunks = std::clamp<int64_t>(kBufferBytes / (values * 8), 1, std::clamp<int64_t>(request.batch, 1, kChunks));
    std::vector<Sums<T>> sums(chunks);  // as many as the sizes say, whatever the threads: sums are added in the same order
    parallel_for(chunks, request.threads, 1, [&](int64_t c, Watch& watch) {
        sums[c] = empty_sums(sources, gradient, request);
        Undo<T> undo(shared, gradient, sums[c]);
        for (int64_t sample = request.batch * c / chunks; sample < request.batch * (c + 1) / chunks; ++sample) undo(sample, watch);
    });
    for (const auto& chunk : sums) {
        for (size_t k = 0; k < sources.size(); ++k) {
            for (size_t w = 0; w < chunk.weight[k].size(); ++w) gradient.weight[k][w] += chunk.weight[k][w];
            for (size_t d = 0; d < chunk.delay[k].size(); ++d) gradient.delay[k][d] += chunk.delay[k][d];
        }
        for (int64_t m = 0; m < request.size; ++m) gradient.neuron[m] += chunk.neuron[m];
        gradient.slope.acted += chunk.slope.acted, gradient.slope.spikes += chunk.slope.spikes;
    }
}

template void queue_adjoint(const std::vector<QueueSource<float>>&, const std::vector<QueuePopulation>&, const std::vector<QueueBackward>&,
                            const QueueAdjointRequest&, QueueGradient<float>&);
template void queue_adjoint(const std::vector<QueueSource<double>>&, const std::vector<QueuePopulation>&, const std::vector<QueueBackward>&,
                            const QueueAdjointRequest&, QueueGradient<double>&);

}  // namespace spikeloop
