// Python's way to losses.hpp.
#include "losses.hpp"

#include "arguments.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

double first_spike_door(const TrainsIn& spikes, const Array<const int64_t, 1>& label, int64_t units, double tau0, double tau1, double alpha,
                        double steepest, const Array<uint8_t, 1>& silent, const Array<double, 1>& by_time) {
    const FirstSpikeLoss loss{tau0, tau1, alpha, steepest};
    return loss(trains_of(spikes), int64_t(label.shape(0)), units, label.data(), silent.data(), by_time.data());
}

template <class T>
double cross_entropy_door(const Array<const T, 2>& value, const Array<const int64_t, 1>& label, double scale, const Array<T, 2>& slope) {
    return cross_entropy(value.data(), int64_t(value.shape(0)), int64_t(value.shape(1)), label.data(), scale, slope.data());
}

}  // namespace

void define_losses(nb::module_& m) {
    m.def("first_spike_cross_entropy", &first_spike_door, "spikes"_a.noconvert(), "label"_a.noconvert(), "units"_a, "tau0"_a, "tau1"_a, "alpha"_a, "steepest"_a,
          "silent"_a.noconvert(), "by_time"_a.noconvert());
    m.def("cross_entropy", &cross_entropy_door<double>, "value"_a.noconvert(), "label"_a.noconvert(), "scale"_a, "slope"_a.noconvert());
    m.def("cross_entropy", &cross_entropy_door<float>, "value"_a.noconvert(), "label"_a.noconvert(), "scale"_a, "slope"_a.noconvert());
}

}  // namespace spikeloop
