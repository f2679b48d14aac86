// Python's way to correlation.hpp.
#include <nanobind/stl/tuple.h>

#include "correlation.hpp"
#include "numpy_array.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

using MomentsIn = std::tuple<Array<const double, 1>, Array<const int32_t, 1>>;  // times, units
using GroupsIn = std::tuple<Array<const int64_t, 1>, Array<const int64_t, 1>>;  // begins, synapses
using GainsIn = std::tuple<Array<double, 1>, Array<const double, 1>, Array<const double, 1>>;  // values, amplitudes, rates

Moments moments_of(const MomentsIn& in) { return {std::get<0>(in).data(), std::get<1>(in).data(), int64_t(std::get<0>(in).size())}; }

Groups groups_of(const GroupsIn& in) { return {std::get<0>(in).data(), std::get<1>(in).data(), int64_t(std::get<0>(in).size()) - 1}; }

Gains gains_of(const GainsIn& in) {
    return {std::get<0>(in).data(), std::get<1>(in).data(), std::get<2>(in).data(), std::get<1>(in).size() > 1};
}

void correlate_door(const MomentsIn& arrivals, const MomentsIn& spikes, const GroupsIn& rows, const GroupsIn& targets,
                    const Array<const int32_t, 1>& target, const Array<double, 1>& arrival, const Array<double, 1>& spike, const GainsIn& causal,
                    const GainsIn& anticausal, double full) {
    const Sensors sensors{groups_of(rows), groups_of(targets), target.data(), arrival.data(), spike.data(), gains_of(causal), gains_of(anticausal), full};
    const Moments arriving = moments_of(arrivals), firing = moments_of(spikes);
    nb::gil_scoped_release release;
    correlate(sensors, arriving, firing);
}

}  // namespace

void define_correlation(nb::module_& m) {
    m.def("correlate", &correlate_door, "arrivals"_a, "spikes"_a, "rows"_a, "targets"_a, "target"_a, "arrival"_a, "spike"_a, "causal"_a, "anticausal"_a,
          "full"_a);
}

}  // namespace spikeloop
