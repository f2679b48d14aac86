// Event queue: the earliest of all arrivals and predicted crossings is carried out, one after the other. A neuron is only
// touched when something happens to it; whatever it does until then is in closed form.
#include <queue>

#include "queue.hpp"
#include "spike_order.hpp"
#include "threads.hpp"

namespace spikeloop {

template <class T>
std::vector<int64_t> order_of_arrival(const QueueSource<T>& source) {
    std::vector<int64_t> order(source.begin[source.size]);
    for (size_t k = 0; k < order.size(); ++k) order[k] = int64_t(k);
    if (source.delays != Delay::per_synapse) return order;
    for (int64_t u = 0; u < source.size; ++u)
        std::stable_sort(order.begin() + source.begin[u], order.begin() + source.begin[u + 1],
                         [&](int64_t x, int64_t y) { return source.delay[x] < source.delay[y]; });
    return order;
}

namespace {

// Something that will happen: a predicted crossing (source < 0) of `unit`, or the arrival of a spike of `unit`, sent at
// `sent`, at the synapses from `position` on (in order of arrival). With a driver `unit` is the event's number instead.
struct Happening {
    double time;
    int32_t source, unit;
    int64_t position;  // of a crossing: the prediction's number, to know outdated ones
    double sent;
};
struct Later {
    bool operator()(const Happening& x, const Happening& y) const {
        if (x.time != y.time) return x.time > y.time;
        if (x.source != y.source) return x.source > y.source;  // crossings first
        if (x.unit != y.unit) return x.unit > y.unit;
        return x.sent > y.sent;
    }
};

template <class T>
struct Shared {
    const std::vector<QueueSource<T>>& sources;
    const std::vector<QueuePopulation>& populations;
    const QueueRequest& request;
    std::vector<std::vector<int64_t>> order;  // per source
    std::vector<Neuron> neuron;               // in the stage's numbering
    std::vector<double> response;             // highest response to a unit current
    std::vector<int32_t> population;          // of each neuron
    std::vector<std::vector<int32_t>> leaving;  // per population: internal sources that its spikes feed
};

template <class T>
class Run {
  public:
    Run(const Shared<T>& shared, int64_t sample, std::vector<Spike>& spikes) : s_(shared), sample_(sample), spikes_(spikes) {}

    void operator()(Watch& watch) {
        start();
        const double end = s_.request.until;
        while (!queue_.empty() && queue_.top().time <= end) {
            watch.glance();
            const Happening now = queue_.top();
            queue_.pop();
            if (now.source >= 0) {
                if (now.time < end) arrive(now);
            } else if (now.position == prediction_[now.unit]) {
                fire(now.unit, now.time);
            }
        }
        finish();
    }

  private:
    const QueuePopulation& population(int64_t m) const { return s_.populations[s_.population[m]]; }

    void start() {
        const int64_t size = s_.request.size;
        state_.resize(size), touched_.assign(size, s_.request.begin), prediction_.assign(size, 0), fired_.assign(size, 0);
        next_sample_.assign(size, 0), peak_.resize(size), may_spike_.resize(size), sampled_.assign(size, -1);
        for (const auto& p : s_.populations) {
            for (int64_t m = p.first; m < p.first + p.neurons.size; ++m) {
                state_[m] = p.initial(sample_, m, s_.neuron[m], s_.request.begin);
                peak_[m] = {s_.request.begin, state_[m].v};
                if (p.from.time) touched_[m] = p.from.time[p.slot(sample_, m)], state_[m] = p.from[p.slot(sample_, m)];
                may_spike_[m] = p.neurons.spiking && !(p.silent && p.silent[p.slot(sample_, m)]);
            }
            for (int64_t c = 0; c < p.sampling.units; ++c) sampled_[p.first + p.sampling.unit[c]] = c;
        }
        for (int64_t m = 0; m < size; ++m) predict(m);
        start_drivers();
        for (size_t k = 0; k < s_.sources.size(); ++k) {  // recent spikes of a continued run come as trains, too
            const auto& trains = s_.sources[k].trains;
            if (!trains.start) continue;
            const Driver& driver = s_.sources[k].driver;
            for (int64_t e = trains.start[sample_]; e < trains.start[sample_ + 1]; ++e)
                send(int32_t(k), driver ? event(k, trains.unit[e], driver.recent[e]) : trains.unit[e], trains.time[e]);
        }
    }

    void start_drivers() {
        events_.resize(s_.sources.size()), resource_.resize(s_.sources.size());
        for (size_t k = 0; k < s_.sources.size(); ++k) {
            const Driver& driver = s_.sources[k].driver;
            events_[k].clear(), resource_[k].clear();
            if (!driver) continue;
            const int64_t units = s_.sources[k].size;
            for (int64_t u = sample_ * units; u < (sample_ + 1) * units; ++u) resource_[k].push_back({driver.first[u], driver.last[u]});
        }
    }

    // The number of an event of a source with a driver.
    int32_t event(size_t k, int32_t unit, double size) {
        events_[k].push_back({unit, size});
        return int32_t(events_[k].size()) - 1;
    }

    // An event of a unit now, and its number.
    int32_t use(size_t k, int32_t unit, double time) {
        const Driver& driver = s_.sources[k].driver;
        auto& [x, last] = resource_[k][unit];
        x = resource(x, driver.used[unit], relaxed(time - last, driver.tau[unit]));
        last = time;
        return event(k, unit, driver.event.of(unit, x));
    }

    // Queue the first arrival within the run of a presynaptic spike of a unit; with a driver, of the event of this number.
    void send(int32_t k, int32_t name, double sent) {
        const auto& source = s_.sources[k];
        const int32_t unit = source.driver ? events_[k][name].unit : name;
        int64_t position = source.begin[unit];
        const int64_t end = source.begin[unit + 1];
        const auto time = [&] { return sent + source.delay_of(unit, s_.order[k][position]); };
        while (position < end && time() < s_.request.begin) ++position;
        if (position < end && time() < s_.request.until) queue_.push({time(), k, name, position, sent});
    }

    void arrive(const Happening& now) {
        const auto& source = s_.sources[now.source];
        const auto& order = s_.order[now.source];
        const auto [unit, size] = source.driver ? events_[now.source][now.unit] : Event{now.unit, 1.0};
        const int64_t end = source.begin[unit + 1];
        for (int64_t position = now.position; position < end; ++position) {
            const int64_t synapse = order[position];
            if (source.delays == Delay::per_synapse) {
                const double time = now.sent + source.delay_of(unit, synapse);
                if (time > now.time) {
                    queue_.push({time, now.source, now.unit, position, now.sent});
                    return;
                }
            }
            const int64_t m = source.first_target + source.target[synapse];
            touch(m, now.time);
            state_[m].i += size * source.weight[source.weight_of(synapse)];
            predict(m);
        }
    }

    void fire(int64_t m, double time) {
        if (++fired_[m] > s_.request.spike_limit) throw Explosion(sample_, m);
        take_samples(m, [&](double sample) { return sample < time; });
        const Neuron& n = s_.neuron[m];
        if (population(m).peaks.value) {
            if (n.threshold > peak_[m].value) peak_[m] = {time, n.threshold};
        }
        const double wait = time - touched_[m];
        state_[m] = {n.reset, state_[m].i * std::exp(-n.b * wait), time + n.refractory};
        touched_[m] = time;
        spikes_.push_back({time, int32_t(m)});
        predict(m);
        const int32_t p = s_.population[m];
        for (int32_t k : s_.leaving[p]) {
            const int32_t unit = int32_t(m - s_.sources[k].first_source);
            send(k, s_.sources[k].driver ? use(k, unit, time) : unit, time);
        }
    }

    // Bring a neuron that does not spike in between up to `time`.
    void touch(int64_t m, double time) {
        if (time == touched_[m]) return;
        take_samples(m, [&](double sample) { return within(sample, time); });
        if (population(m).peaks.value) raise_peak(s_.neuron[m], state_[m], touched_[m], time, peak_[m], s_.request.begin);
        advance(s_.neuron[m], state_[m], touched_[m], time, false, [](double) { return true; });
        touched_[m] = time;
    }

    // Those since the last touch that are `due`: whoever touches a neuron leaves its value right after the touch.
    template <class Due>
    void take_samples(int64_t m, Due&& due) {
        if (sampled_[m] < 0) return;
        const auto& p = population(m);
        const auto& sampling = p.sampling;
        const double* times = sampling.times(sample_);
        for (int64_t& k = next_sample_[m]; k < sampling.count && due(times[k]); ++k)
            sampling.value[(sample_ * sampling.count + k) * sampling.units + sampled_[m]] =
                membrane_at(s_.neuron[m], state_[m], touched_[m], times[k], 0) + p.neurons.leak[m - p.first];
    }

    void predict(int64_t m) {
        ++prediction_[m];
        if (!may_spike_[m]) return;
        const Neuron& n = s_.neuron[m];
        const State& s = state_[m];
        if (!n.rises_to_threshold() && std::max(s.v, 0.0) + std::max(s.i, 0.0) * s_.response[m] < n.threshold * (1 - 1e-9)) return;
        const double from = std::max(touched_[m], s.free), rest = s_.request.until - from;
        if (rest < 0) return;
        const double i = from > touched_[m] ? s.i * std::exp(-n.b * (from - touched_[m])) : s.i;
        const double wait = first_crossing(n, s.v, i, rest);
        if (wait >= 0) queue_.push({from + wait, -1, int32_t(m), prediction_[m], 0.0});
    }

    void finish() {
        for (const auto& p : s_.populations)
            for (int64_t l = 0; l < p.neurons.size; ++l) {
                const int64_t m = p.first + l, slot = p.slot(sample_, m);
                take_samples(m, [](double) { return true; });
                if (p.to.time) p.to.keep(slot, touched_[m], state_[m]);
                touch(m, s_.request.until);
                store_state(p.end, slot, state_[m], p.neurons.leak[l], s_.request.until);
                if (!p.peaks.value) continue;
                p.peaks.time[slot] = peak_[m].time;
                p.peaks.value[slot] = peak_[m].value + p.neurons.leak[l];
            }
    }

    struct Event {
        int32_t unit;
        double size;
    };

    const Shared<T>& s_;
    int64_t sample_;
    std::vector<Spike>& spikes_;
    std::vector<std::vector<Event>> events_;                        // per source with a driver
    std::vector<std::vector<std::pair<double, double>>> resource_;  // likewise, of each unit: x at its latest event, and when
    std::priority_queue<Happening, std::vector<Happening>, Later> queue_;
    std::vector<State> state_;
    std::vector<double> touched_;
    std::vector<int64_t> prediction_, fired_, next_sample_, sampled_;
    std::vector<Maximum> peak_;
    std::vector<char> may_spike_;
};

}  // namespace

template <class T>
SpikesPerSample queue_forward(const std::vector<QueueSource<T>>& sources, const std::vector<QueuePopulation>& populations,
                              const QueueRequest& request) {
    Shared<T> shared{sources, populations, request, {}, {}, {}, {}, {}};
    for (const auto& source : sources) shared.order.push_back(order_of_arrival(source));
    shared.leaving.resize(populations.size());
    for (size_t p = 0; p < populations.size(); ++p) {
        for (int64_t l = 0; l < populations[p].neurons.size; ++l) {
            const Neuron n = populations[p].neurons[l];
            shared.neuron.push_back(n);
            shared.response.push_back(response_peak(n.a, n.b));
            shared.population.push_back(int32_t(p));
        }
        for (size_t k = 0; k < sources.size(); ++k)
            if (sources[k].internal && sources[k].first_source == populations[p].first && populations[p].neurons.size)
                shared.leaving[p].push_back(int32_t(k));
    }
    SpikesPerSample spikes(request.batch);
    parallel_for(request.batch, request.threads, 1, [&](int64_t sample, Watch& watch) {
        Run<T>(shared, sample, spikes[sample])(watch);
        sort_spikes(spikes[sample]);
    });
    return spikes;
}

template std::vector<int64_t> order_of_arrival(const QueueSource<float>&);
template std::vector<int64_t> order_of_arrival(const QueueSource<double>&);
template SpikesPerSample queue_forward(const std::vector<QueueSource<float>>&, const std::vector<QueuePopulation>&, const QueueRequest&);
template SpikesPerSample queue_forward(const std::vector<QueueSource<double>>&, const std::vector<QueuePopulation>&, const QueueRequest&);

}  // namespace spikeloop
