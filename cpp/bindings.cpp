// Python's way into the core: views of NumPy arrays in, filled arrays out. Outputs of known size are allocated by the caller.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "dense.hpp"
#include "finite.hpp"
#include "numpy_array.hpp"
#include "queue.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {

void define_codes(nb::module_& m);
void define_correlation(nb::module_& m);
void define_disturbed(nb::module_& m);
void define_losses(nb::module_& m);
void define_multiply(nb::module_& m);
void define_short_term(nb::module_& m);
void define_stepped(nb::module_& m);

namespace {

template <class T, int D>
using Maybe = std::optional<Array<T, D>>;

using TrainsIn = std::tuple<Array<const double, 1>, Array<const int32_t, 1>, Array<const int64_t, 1>>;
// trains, or which earlier stage of the call they come from; weights, delays
template <class T>
using DenseIn = std::tuple<std::variant<int64_t, TrainsIn>, Array<const T, 2>, Array<const double, 1>>;
// used, tau, base, slope, x at the latest events, when these were, sizes of recent events; of the spikes of a record: sizes, slopes, kept
using DriverIn = std::tuple<Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 2>,
                            Array<const double, 2>, Array<const double, 1>, Array<const double, 2>>;
// trains, first source neuron (-1: external), first target neuron, row begins, targets, weight index, weights, delays, kind of delays,
// short-term plasticity within the stage
template <class T>
using QueueIn = std::tuple<std::optional<TrainsIn>, int64_t, int64_t, Array<const int64_t, 1>, Array<const int32_t, 1>,
                           Maybe<const int64_t, 1>, Array<const T, 1>, Array<const double, 1>, int, std::optional<DriverIn>>;
using StateIn = std::tuple<Array<double, 2>, Array<double, 2>, Array<double, 2>>;
using AnchorsIn = std::tuple<Array<double, 2>, Array<double, 2>, Array<double, 2>, Array<double, 2>>;
// times (1 or batch rows), units, values (batch, times, units)
using SamplingIn = std::tuple<Array<const double, 2>, Array<const int32_t, 1>, Array<double, 3>>;
using PeaksIn = std::tuple<Array<double, 2>, Array<double, 2>>;
// what a population is asked for: silent neurons, start, end, anchors to go on from and to fill, sampling, peaks, count
using AskIn = std::tuple<Maybe<const uint8_t, 2>, std::optional<StateIn>, std::optional<StateIn>, std::optional<AnchorsIn>, std::optional<AnchorsIn>,
                         std::optional<SamplingIn>, std::optional<PeaksIn>, Maybe<float, 2>>;
// what the loss says of a population: its spikes, dL/dt of each, samples' and peaks' cotangents, start
using CotangentIn = std::tuple<TrainsIn, Array<double, 1>, std::optional<SamplingIn>, std::optional<PeaksIn>, std::optional<StateIn>>;

Trains trains_of(const TrainsIn& in) { return {std::get<0>(in).data(), std::get<1>(in).data(), std::get<2>(in).data()}; }

Neurons neurons_of(const Array<const double, 2>& in, bool spiking) {
    const int64_t n = int64_t(in.shape(1));
    const double* p = in.data();
    return {n, p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, p + 5 * n, spiking};
}

StateArrays state_of(const std::optional<StateIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data(), std::get<2>(*in).data()};
}

Anchors anchors_of(const std::optional<AnchorsIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data(), std::get<2>(*in).data(), std::get<3>(*in).data()};
}

Sampling sampling_of(const std::optional<SamplingIn>& in) {
    if (!in) return {};
    const auto& [time, unit, value] = *in;
    return {time.data(), int64_t(time.shape(1)), time.shape(0) > 1, unit.data(), int64_t(unit.shape(0)), value.data()};
}

Peaks peaks_of(const std::optional<PeaksIn>& in) {
    if (!in) return {};
    return {std::get<0>(*in).data(), std::get<1>(*in).data()};
}

// Membranes the loss depends on, sample by sample.
std::vector<std::vector<MembraneCotangent>> membranes_of(const CotangentIn& in, int64_t batch) {
    std::vector<std::vector<MembraneCotangent>> out;
    const auto& samples = std::get<2>(in);
    const auto& peaks = std::get<3>(in);
    if (!samples && !peaks) return out;
    out.resize(batch);
    if (samples) {
        const Sampling s = sampling_of(samples);
        for (int64_t b = 0; b < batch; ++b)
            for (int64_t k = 0; k < s.count; ++k)
                for (int64_t u = 0; u < s.units; ++u)
                    if (const double c = s.value[(b * s.count + k) * s.units + u]; c != 0)
                        out[b].push_back({s.times(b)[k], s.unit[u], c, false});
    }
    if (peaks) {
        const auto& [time, value] = *peaks;
        const int64_t n = int64_t(time.shape(1));
        for (int64_t b = 0; b < batch; ++b) {
            out[b].reserve(out[b].size() + n);
            for (int64_t m = 0; m < n; ++m)
                if (const double c = value.data()[b * n + m]; c != 0) out[b].push_back({time.data()[b * n + m], int32_t(m), c, true});
        }
    }
    return out;
}

// An array that Python gets, not filled yet.
template <class T>
struct Made {
    std::unique_ptr<T[]> values;
    size_t rows = 0, columns = 0;  // no columns: it has one dimension
    explicit Made(size_t rows = 0, size_t columns = 0) : values(new T[rows * std::max<size_t>(columns, 1)]), rows(rows), columns(columns) {}
    T& operator[](size_t k) { return values[k]; }
    nb::object to_python() {
        T* data = values.release();
        nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
        if (columns) return nb::cast(nb::ndarray<T, nb::numpy>(data, {rows, columns}, owner));
        return nb::cast(nb::ndarray<T, nb::numpy>(data, {rows}, owner));
    }
};

struct Spikes {
    Made<double> time;
    Made<int32_t> unit;
    Made<int64_t> start;
    nb::tuple to_python() { return nb::make_tuple(time.to_python(), unit.to_python(), start.to_python()); }
};

// Spikes of neurons first .. first + size of `all`, renumbered from 0; `count` (batch, size), if given, is raised by one for each.
Spikes collect(const SpikesPerSample& spikes, int64_t first, int64_t size, int64_t all, const Maybe<float, 2>& count, int threads) {
    constexpr double kNanoseconds = 4;  // about, of one spike
    const int64_t batch = int64_t(spikes.size());
    const auto mine = [&](const Spike& spike) { return spike.unit >= first && spike.unit < first + size; };
    Made<int64_t> start(batch + 1);
    start[0] = 0;
    for (int64_t b = 0; b < batch; ++b)
        start[b + 1] = start[b] + (size == all ? int64_t(spikes[b].size()) : std::count_if(spikes[b].begin(), spikes[b].end(), mine));
    const int64_t total = start[batch];
    Spikes out{Made<double>(total), Made<int32_t>(total), std::move(start)};
    parallel_for(batch, worthwhile(threads, kNanoseconds * double(total), true), 16, [&](int64_t b) {
        int64_t to = out.start[b];
        float* row = count ? count->data() + b * size : nullptr;
        for (const Spike& spike : spikes[b]) {
            if (!mine(spike)) continue;
            out.time[to] = spike.time, out.unit[to++] = int32_t(spike.unit - first);
            if (row) row[spike.unit - first] += 1;
        }
    });
    return out;
}

nb::object neuron_gradients(const std::vector<NeuronGradient>& gradients) {
    const size_t n = gradients.size();
    Made<double> out(6, n);
    for (size_t m = 0; m < n; ++m) {
        const NeuronGradient& g = gradients[m];
        const double fields[] = {g.tau_mem, g.tau_syn, g.threshold, g.leak, g.reset, g.refractory};
        for (size_t f = 0; f < 6; ++f) out[f * n + m] = fields[f];
    }
    return out.to_python();
}

template <class T>
std::vector<DenseSource<T>> dense_sources(const std::vector<DenseIn<T>>& in) {
    std::vector<DenseSource<T>> out;
    for (const auto& [from, weight, delay] : in) {
        DenseSource<T>& source = out.emplace_back();
        if (const auto* stage = std::get_if<int64_t>(&from))
            source.stage = *stage;
        else
            source.trains = trains_of(std::get<TrainsIn>(from));
        source.size = int64_t(weight.shape(0)), source.weight = weight.data();
        source.delay = delay.data(), source.delay_per_unit = delay.shape(0) > 1;
    }
    return out;
}

template <class T>
nb::list dense_forward_door(const std::vector<std::tuple<std::vector<DenseIn<T>>, Array<const double, 2>, bool, AskIn>>& in, int64_t batch,
                            double begin, double until, int64_t spike_limit, int threads) {
    std::vector<DenseStage<T>> stages;
    for (const auto& [sources, neurons, spiking, asked] : in) {
        const auto& [silent, start, end, from, to, sampling, peaks, count] = asked;
        stages.push_back({dense_sources<T>(sources), neurons_of(neurons, spiking),
                          {batch, begin, until, silent ? silent->data() : nullptr, state_of(start), state_of(end), anchors_of(from),
                           anchors_of(to), sampling_of(sampling), peaks_of(peaks), spike_limit, threads}});
    }
    std::vector<Spikes> out;
    {
        nb::gil_scoped_release release;
        const auto& spikes = dense_forward<T>(stages);
        for (size_t k = 0; k < stages.size(); ++k) out.push_back(collect(spikes[k], 0, stages[k].neurons.size, stages[k].neurons.size, std::get<7>(std::get<3>(in[k])), threads));
    }
    nb::list result;
    for (auto& spikes : out) result.append(spikes.to_python());
    return result;
}

template <class T>
using DenseBackIn = std::tuple<std::vector<DenseIn<T>>, Array<const double, 2>, bool, CotangentIn, std::vector<Maybe<T, 2>>, std::vector<Maybe<double, 1>>,
                               std::vector<Maybe<double, 1>>, bool, bool>;

template <class A>
auto pointers(const std::vector<std::optional<A>>& arrays) {
    std::vector<decltype(arrays[0]->data())> out;
    for (const auto& array : arrays) out.push_back(array ? array->data() : nullptr);
    return out;
}

template <class T>
nb::list dense_adjoint_door(const std::vector<DenseBackIn<T>>& in, int64_t batch, double begin, double duration, double slope_floor,
                           int threads) {
    std::vector<DenseBack<T>> stages;
    for (const auto& [sources, neurons, spiking, cotangent, weight, time, source_time, want_neuron, want_tau] : in) {
        DenseBack<T>& stage = stages.emplace_back();
        stage.sources = dense_sources<T>(sources), stage.neurons = neurons_of(neurons, spiking);
        stage.weight = pointers(weight), stage.time = pointers(time), stage.source_time = pointers(source_time);
        Backward& request = stage.request;
        request.batch = batch, request.begin = begin, request.duration = duration, request.spikes = trains_of(std::get<0>(cotangent));
        request.time_cotangent = std::get<1>(cotangent).data(), request.start = state_of(std::get<4>(cotangent));
        request.slope_floor = slope_floor, request.want_neuron = want_neuron, request.want_tau = want_tau, request.threads = threads;
    }
    {
        nb::gil_scoped_release release;
        for (size_t k = 0; k < stages.size(); ++k) stages[k].request.membrane = membranes_of(std::get<3>(in[k]), batch);
        dense_adjoint<T>(stages);
    }
    nb::list result;
    for (const auto& stage : stages) result.append(nb::make_tuple(neuron_gradients(stage.neuron), stage.slope.spikes, stage.slope.acted));
    return result;
}

template <class T>
std::vector<QueueSource<T>> queue_sources(const std::vector<QueueIn<T>>& in) {
    std::vector<QueueSource<T>> out;
    for (const auto& [trains, first_source, first_target, begin, target, index, weight, delay, delays, driver] : in) {
        QueueSource<T> s;
        if (trains) s.trains = trains_of(*trains);
        s.internal = first_source >= 0, s.size = int64_t(begin.shape(0)) - 1, s.first_source = first_source, s.first_target = first_target;
        s.begin = begin.data(), s.target = target.data(), s.weight_index = index ? index->data() : nullptr;
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
        stage[p].silent = silent ? silent->data() : nullptr, stage[p].start = state_of(start), stage[p].end = state_of(end);
        stage[p].from = anchors_of(from), stage[p].to = anchors_of(to);
        stage[p].sampling = sampling_of(sampling), stage[p].peaks = peaks_of(peaks);
    }
    std::vector<Spikes> out;
    {
        nb::gil_scoped_release release;
        const auto spikes = queue_forward<T>(in, stage, {batch, size_of(stage), begin, until, spike_limit, threads});
        for (size_t p = 0; p < stage.size(); ++p) out.push_back(collect(spikes, stage[p].first, stage[p].neurons.size, size_of(stage), std::get<7>(asks[p]), threads));
    }
    nb::list result;
    for (auto& spikes : out) result.append(spikes.to_python());
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
        gradient.weight.push_back(weight[k] ? weight[k]->data() : nullptr);
        gradient.delay.push_back(delay[k] ? delay[k]->data() : nullptr);
        gradient.time.push_back(time[k] ? time[k]->data() : nullptr);
    }
    {
        nb::gil_scoped_release release;
        for (size_t p = 0; p < stage.size(); ++p) backward[p].membrane = membranes_of(cotangents[p], batch);
        queue_adjoint<T>(in, stage, backward, {batch, size_of(stage), begin, duration, slope_floor, want_tau, threads}, gradient);
    }
    return nb::make_tuple(neuron_gradients(gradient.neuron), gradient.slope.spikes, gradient.slope.acted);
}

bool finite_door(const std::vector<std::variant<Array<const float, 1>, Array<const double, 1>>>& arrays) {
    for (const auto& array : arrays)
        if (!std::visit([](const auto& x) { return all_finite(x.data(), int64_t(x.size())); }, array)) return false;
    return true;
}

template <class T>
void define(nb::module_& m) {
    m.def("dense_forward", &dense_forward_door<T>, "stages"_a, "batch"_a, "begin"_a, "until"_a, "spike_limit"_a, "threads"_a);
    m.def("dense_adjoint", &dense_adjoint_door<T>, "stages"_a, "batch"_a, "begin"_a, "duration"_a, "slope_floor"_a, "threads"_a);
    m.def("queue_forward", &queue_forward_door<T>, "sources"_a, "populations"_a, "batch"_a, "begin"_a, "until"_a, "asks"_a, "spike_limit"_a,
          "threads"_a);
    m.def("queue_adjoint", &queue_adjoint_door<T>, "sources"_a, "populations"_a, "batch"_a, "begin"_a, "duration"_a, "cotangents"_a, "weight"_a, "delay"_a,
          "time"_a, "want_tau"_a, "slope_floor"_a, "threads"_a);
}

}  // namespace
}  // namespace spikeloop

NB_MODULE(_core, m) {
    using namespace spikeloop;
    m.doc() = "The native engine: event-driven forward and adjoint passes over NumPy arrays.";
    interrupt_check() = [] {
        nb::gil_scoped_acquire acquire;
        return PyErr_CheckSignals() != 0;
    };
    m.attr("Explosion") = nb::handle(PyErr_NewException("spikeloop.engine._core.Explosion", PyExc_RuntimeError, nullptr));
    nb::register_exception_translator(
        [](const std::exception_ptr& p, void*) {
            try {
                std::rethrow_exception(p);
            } catch (const Explosion& e) {
                const nb::tuple where = nb::make_tuple(e.sample, e.unit, e.stage);
                PyErr_SetObject(nb::module_::import_("spikeloop.engine._core").attr("Explosion").ptr(), where.ptr());
            } catch (const Interrupted&) {
                if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
            }
        },
        nullptr);
    m.def("finite", &finite_door, "arrays"_a);
    define<float>(m);
    define<double>(m);
    define_codes(m);
    define_correlation(m);
    define_disturbed(m);
    define_losses(m);
    define_multiply(m);
    define_short_term(m);
    define_stepped(m);
}
