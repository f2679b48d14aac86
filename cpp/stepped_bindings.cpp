// Python's way to the stepped kernels.
#include "stepped.hpp"

#include "arguments.hpp"
#include "results.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// floor, most, noise, threshold noise (C, N each), name (N,), key
using DisturbedIn = std::tuple<Array<const double, 2>, Array<const double, 2>, Array<const double, 2>, Array<const double, 2>, Array<const double, 1>, uint64_t>;
// values, leaky, tau_syn, reversal, couplings, coupling, output, disturbance
using CellsIn = std::tuple<Array<const double, 3>, Array<const uint8_t, 1>, Array<const double, 3>, Array<const double, 3>, Array<const int32_t, 2>,
                           Array<const double, 2>, int, std::optional<DisturbedIn>>;
// v, w, I, free, noise, shift, fired
template <class T>
using StateIn = std::tuple<Array<T, 3>, Array<T, 3>, Array<T, 4>, Array<double, 3>, Array<double, 3>, Array<double, 3>, Array<int64_t, 3>>;
// what, times (1 or batch rows), units, compartments, values (batch, times, units)
using SteppedSamplingIn = std::tuple<int, Array<const double, 2>, Array<const int32_t, 1>, Array<const int32_t, 1>, Array<double, 3>>;
// compartment, times, values (1 or batch, times, N)
using CurrentIn = std::tuple<int, Array<const double, 1>, Array<const double, 3>>;
// silent, start, end, samplings, currents, peaks, count
template <class T>
using AskIn = std::tuple<Maybe<const uint8_t, 2>, std::optional<StateIn<T>>, std::optional<StateIn<T>>, std::vector<SteppedSamplingIn>, std::vector<CurrentIn>,
                         std::optional<PeaksIn>, Maybe<float, 2>>;
// short-term plasticity within a stage: used, tau, base, slope, x at the latest events, when these were
using DriverIn = std::tuple<Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 2>,
                            Array<const double, 2>>;
// and on the grid of the reverse sweep, of each of the trains' events: what it met, the one before, its step; then as above
using DrawnIn = std::tuple<Array<const double, 1>, Array<const int64_t, 1>, Array<const int64_t, 1>, DriverIn>;
// source and target population, receptor, compartment; trains, amplitudes, short-term plasticity
using EndsIn = std::tuple<int, int, int, int, std::optional<TrainsIn>, Maybe<const double, 1>, std::optional<DriverIn>, std::optional<DrawnIn>>;
// row begins, targets, weight index (none: dense); weights, delays, kind of delays, units of the source
template <class T>
using SynapsesIn = std::tuple<Maybe<const int64_t, 1>, Maybe<const int32_t, 1>, Maybe<const int64_t, 1>, Array<const T, 1>, Array<const double, 1>, int, int64_t>;
template <class T>
using LinkIn = std::tuple<EndsIn, SynapsesIn<T>>;
// batch, first step, steps, spike limit, step, threads, settled
using RunIn = std::tuple<int64_t, int64_t, int64_t, int64_t, double, int, std::optional<double>>;

SteppedCells cells_of(const CellsIn& in) {
    const auto& [values, leaky, tau_syn, reversal, couplings, coupling, output, disturbed] = in;
    SteppedCells x;
    x.size = int64_t(values.shape(2)), x.compartments = int(values.shape(1)), x.receptors = int(tau_syn.shape(0));
    x.couplings = int(couplings.shape(0)), x.output = output, x.values = values.data(), x.leaky = leaky.data();
    x.tau_syn = tau_syn.data(), x.reversal = reversal.data(), x.coupled = couplings.data(), x.coupling = coupling.data();
    if (disturbed) {
        const auto& [floor, most, noise, threshold_noise, name, key] = *disturbed;
        x.floor = floor.data(), x.most = most.data(), x.noise = noise.data(), x.threshold_noise = threshold_noise.data();
        x.name = name.data(), x.key = key;
    }
    return x;
}

template <class T>
SteppedState<T> state_of(const std::optional<StateIn<T>>& in) {
    if (!in) return {};
    const auto& [v, w, i, free, noise, shift, fired] = *in;
    return {v.data(), w.data(), i.data(), free.data(), noise.data(), shift.data(), fired.data()};
}

std::vector<SteppedSampling> samplings_of(const std::vector<SteppedSamplingIn>& in) {
    std::vector<SteppedSampling> out;
    for (const auto& [what, time, unit, compartment, value] : in)
        out.push_back({Quantity(what),
                       {time.data(), int64_t(time.shape(1)), time.shape(0) > 1, unit.data(), int64_t(unit.shape(0)), value.data()},
                       compartment.data()});
    return out;
}

template <class T>
SteppedPopulation<T> population_of(const CellsIn& cells, const AskIn<T>& asked) {
    const auto& [silent, start, end, samplings, currents, peaks, count] = asked;
    SteppedPopulation<T> x;
    x.cells = cells_of(cells), x.silent = data(silent), x.start = state_of<T>(start), x.end = state_of<T>(end);
    x.samplings = samplings_of(samplings);
    for (const auto& [compartment, time, value] : currents)
        x.currents.push_back({compartment, time.data(), int64_t(time.shape(0)), value.data(), value.shape(0) > 1});
    x.peaks = peaks_of(peaks);
    return x;
}

template <class T>
SteppedLink<T> link_of(const LinkIn<T>& in) {
    const auto& [source, target, receptor, compartment, trains, amplitude, driver, drawn] = std::get<0>(in);
    const auto& [begin, unit, index, weight, delay, delays, size] = std::get<1>(in);
    SteppedLink<T> x;
    x.source = source, x.target = target, x.receptor = receptor, x.compartment = compartment;
    if (trains) x.trains = trains_of(*trains);
    x.amplitude = data(amplitude), x.size = size, x.weight = weight.data(), x.begin = data(begin), x.index = data(index), x.unit = data(unit);
    x.delay = delay.data(), x.delays = SteppedDelay(delays);
    if (driver) {
        const auto& [used, tau, base, slope, first, last] = *driver;
        x.driver.used = used.data(), x.driver.tau = tau.data(), x.driver.event = {base.data(), slope.data()};
        x.driver.first = first.data(), x.driver.last = last.data();
    }
    if (drawn) {
        const auto& [met, previous, step, of] = *drawn;
        const auto& [used, tau, base, slope, first, last] = of;
        x.drawn = {x.trains.time, x.trains.unit, x.trains.start, met.data(), previous.data(), step.data(), used.data(), tau.data(), first.data(),
                   last.data(), size, {base.data(), slope.data()}};
    }
    return x;
}

SteppedRun run_of(const RunIn& in) {
    const auto& [batch, first, steps, spike_limit, step, threads, settled] = in;
    return {batch, first, steps, spike_limit, step, threads, settled};
}

template <class T>
nb::list forward_door(const std::vector<CellsIn>& cells, const std::vector<LinkIn<T>>& links, const RunIn& run, const std::vector<AskIn<T>>& asks) {
    std::vector<SteppedPopulation<T>> populations;
    for (size_t p = 0; p < cells.size(); ++p) populations.push_back(population_of<T>(cells[p], asks[p]));
    std::vector<SteppedLink<T>> in;
    for (const auto& link : links) in.push_back(link_of<T>(link));
    std::vector<Spikes> out;
    {
        nb::gil_scoped_release release;
        const SteppedRun request = run_of(run);
        const auto spikes = stepped_forward<T>(populations, in, request);
        for (size_t p = 0; p < cells.size(); ++p)
            out.push_back(collect(spikes[p], populations[p].cells.size, data(std::get<6>(asks[p])), request.threads));
    }
    nb::list result;
    for (Spikes& spikes : out) result.append(handed_over(spikes));
    return result;
}

// spikes, dL/dcount, dL/dS of every step, cotangents of samples, of peaks
template <class T>
using PullIn = std::tuple<TrainsIn, Maybe<const T, 2>, Maybe<const T, 3>, std::vector<SteppedSamplingIn>, std::optional<PeaksIn>>;
// what dL/dweight and dL/dS of an outside source are added to
template <class T>
using PushIn = std::tuple<Maybe<T, 1>, Maybe<T, 3>>;

template <class... Sizes>
nb::object shaped(const std::vector<double>& values, Sizes... sizes) {
    Made<double, sizeof...(sizes)> out(sizes...);
    std::copy(values.begin(), values.end(), out.values.get());
    return out.to_python();
}

template <class T>
nb::list backward_door(const std::vector<CellsIn>& cells, const std::vector<LinkIn<T>>& links, const RunIn& run, const std::vector<AskIn<T>>& asks,
                       const std::vector<PullIn<T>>& pulled, const std::vector<PushIn<T>>& pushed, double beta) {
    std::vector<SteppedPopulation<T>> populations;
    std::vector<SteppedPull<T>> pulls;
    for (size_t p = 0; p < cells.size(); ++p) {
        populations.push_back(population_of<T>(cells[p], asks[p]));
        const auto& [spikes, count, push, samplings, peaks] = pulled[p];
        SteppedPull<T> pull;
        pull.spikes = trains_of(spikes), pull.peaks = peaks_of(peaks);
        pull.count = data(count), pull.push = data(push), pull.samplings = samplings_of(samplings);
        pulls.push_back(pull);
    }
    std::vector<SteppedLink<T>> in;
    std::vector<SteppedPush<T>> pushes;
    for (size_t l = 0; l < links.size(); ++l) in.push_back(link_of<T>(links[l])), pushes.push_back({data(std::get<0>(pushed[l])), data(std::get<1>(pushed[l]))});
    std::vector<SteppedGradient> found;
    {
        nb::gil_scoped_release release;
        found = stepped_backward<T>(populations, in, pulls, pushes, beta, run_of(run));
    }
    nb::list result;
    for (size_t p = 0; p < cells.size(); ++p) {
        const SteppedCells& x = populations[p].cells;
        result.append(nb::make_tuple(shaped(found[p].values, kCellFields, x.compartments, x.size), shaped(found[p].tau_syn, x.receptors, x.compartments, x.size),
                                     shaped(found[p].reversal, x.receptors, x.compartments, x.size), shaped(found[p].coupling, x.couplings, x.size)));
    }
    return result;
}

}  // namespace

void define_stepped(nb::module_& m) {
    m.def("stepped_forward_single", &forward_door<float>, "cells"_a, "links"_a, "run"_a, "asks"_a);
    m.def("stepped_forward_double", &forward_door<double>, "cells"_a, "links"_a, "run"_a, "asks"_a);
    m.def("stepped_backward_single", &backward_door<float>, "cells"_a, "links"_a, "run"_a, "asks"_a, "pulls"_a, "pushes"_a, "beta"_a);
    m.def("stepped_backward_double", &backward_door<double>, "cells"_a, "links"_a, "run"_a, "asks"_a, "pulls"_a, "pushes"_a, "beta"_a);
}

}  // namespace spikeloop
