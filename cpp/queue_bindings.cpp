// Python's way to queue.hpp.
#include "queue.hpp"

#include "pass_arguments.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// used, tau, base, slope, x at the latest events, when these were, sizes of recent events; of the spikes of a record: sizes, slopes, kept
using DriverIn = std::tuple<Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 2>,
                            Array<const double, 2>, Array<const double, 1>, Array<const double, 2>>;
// trains, first source neuron (-1: external), first target neuron, row begins, targets, weight index, weights, delays, kind of delays,
// short-term plasticity within the stage
template <class T>
using QueueIn = std::tuple<std::optional<TrainsIn>, int64_t, int64_t, Array<const int64_t, 1>, Array<const int32_t, 1>,
                           Maybe<const int64_t, 1>, Array<const T, 1>, Array<const double, 1>, int, std::optional<DriverIn>>;

template <class T>
std::vector<QueueSource<T>> queue_sources(const std::vector<QueueIn<T>>& in) {
    std::vector<QueueSource<T>> out;
    for (const auto& [trains, first_source, first_target, begin, target, index, weight, delay, delays, driver] : in) {
        QueueSource<T> s;
        if (trains) s.trains = trains_of(*trains);
        s.internal = first_source >= 0, s.size = int64_t(begin.shape(0)) - 1, s.first_source = first_source, s.first_target = first_target;
        s.begin = begin.data(), s.target = target.data(), s.weight_index = data(index);
        s.weight = weight.data(), s.weights = int64_t(weight.shape(0)), s.delay = delay.data(), s.delays = Delay(delays);
        if (driver) {
            const auto& [used, tau, base, slope, x, last, recent, record] = *driver;
            const double* size = record.data();
            const int64_t spikes = int64_t(record.shape(1));
            s.driver = {used.data(), tau.data(), x.data(), last.data(), recent.data(), {base.data(), slope.data()}, size, size + spikes, size + 2 * spikes};
        }
        out.push_back(s);
    }
    return out;
}

using PopulationIn = std::tuple<Array<const double, 2>, bool>;  // neuron parameters, spiking

std::vector<QueuePopulation> queue_populations(const std::vector<PopulationIn>& in) {
    std::vector<QueuePopulation> out;
    int64_t first = 0;
    for (const auto& [neurons, spiking] : in) {
        QueuePopulation p;
        p.neurons = neurons_of(neurons, spiking), p.first = first;
        first += p.neurons.size;
        out.push_back(p);
    }
    return out;
}

int64_t size_of(const std::vector<QueuePopulation>& populations) {
    return populations.empty() ? 0 : populations.back().first + populations.back().neurons.size;
}

template <class T>
nb::list queue_forward_door(const std::vector<QueueIn<T>>& sources, const std::vector<PopulationIn>& populations, int64_t batch, double begin, double until,
                            const std::vector<AskIn>& asks, int64_t spike_limit, int threads) {
    const auto in = queue_sources<T>(sources);
    auto stage = queue_populations(populations);
    for (size_t p = 0; p < stage.size(); ++p) {
        const auto& [silent, start, end, from, to, sampling, peaks, count] = asks[p];
        stage[p].silent = data(silent), stage[p].start = state_of(start), stage[p].end = state_of(end);
        stage[p].from = anchors_of(from), stage[p].to = anchors_of(to);
        stage[p].sampling = sampling_of(sampling), stage[p].peaks = peaks_of(peaks);
    }
    std::vector<Spikes> out;
    {
        nb::gil_scoped_release release;
        const auto spikes = queue_forward<T>(in, stage, {batch, size_of(stage), begin, until, spike_limit, threads});
        for (size_t p = 0; p < stage.size(); ++p)
            out.push_back(collect(spikes, stage[p].first, stage[p].neurons.size, size_of(stage), data(count_of(asks[p])), threads));
    }
    nb::list result;
    for (Spikes& spikes : out) result.append(handed_over(spikes));
    return result;
}

template <class T>
nb::tuple queue_adjoint_door(const std::vector<QueueIn<T>>& sources, const std::vector<PopulationIn>& populations, int64_t batch, double begin,
                             double duration, const std::vector<CotangentIn>& cotangents, const std::vector<Maybe<T, 1>>& weight,
                             const std::vector<Maybe<double, 1>>& delay, const std::vector<Maybe<double, 1>>& time, bool want_tau,
                             double slope_floor, int threads) {
    const auto in = queue_sources<T>(sources);
    auto stage = queue_populations(populations);
    std::vector<QueueBackward> backward(stage.size());
    for (size_t p = 0; p < stage.size(); ++p) {
        stage[p].start = state_of(std::get<4>(cotangents[p]));
        backward[p].spikes = trains_of(std::get<0>(cotangents[p])), backward[p].time_cotangent = std::get<1>(cotangents[p]).data();
    }
    QueueGradient<T> gradient;
    for (size_t k = 0; k < in.size(); ++k) {
        gradient.weight.push_back(data(weight[k]));
        gradient.delay.push_back(data(delay[k]));
        gradient.time.push_back(data(time[k]));
    }
    {
        nb::gil_scoped_release release;
        for (size_t p = 0; p < stage.size(); ++p) backward[p].membrane = membranes_of(cotangents[p], batch);
        queue_adjoint<T>(in, stage, backward, {batch, size_of(stage), begin, duration, slope_floor, want_tau, threads}, gradient);
    }
    return nb::make_tuple(neuron_gradients(gradient.neuron), gradient.slope.spikes, gradient.slope.acted);
}

template <class T>
void define(nb::module_& m) {
    m.def("queue_forward", &queue_forward_door<T>, "sources"_a.noconvert(), "populations"_a.noconvert(), "batch"_a, "begin"_a, "until"_a, "asks"_a.noconvert(), "spike_limit"_a,
          "threads"_a);
    m.def("queue_adjoint", &queue_adjoint_door<T>, "sources"_a.noconvert(), "populations"_a.noconvert(), "batch"_a, "begin"_a, "duration"_a, "cotangents"_a.noconvert(), "weight"_a.noconvert(), "delay"_a.noconvert(),
          "time"_a.noconvert(), "want_tau"_a, "slope_floor"_a, "threads"_a);
}

}  // namespace

void define_queue(nb::module_& m) {
    define<float>(m);
    define<double>(m);
}

}  // namespace spikeloop
