// Python's way to short_term.hpp.
#include "numpy_array.hpp"
#include "short_term.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

void meet_door(const Array<const double, 1>& time, const Array<const int32_t, 1>& unit, const Array<const int64_t, 1>& start,
               const Array<const double, 1>& used, const Array<const double, 1>& tau, const Array<double, 2>& first, const Array<double, 2>& last,
               const Array<double, 2>& found, const Array<int64_t, 1>& previous) {
    double* x = found.data();
    const int64_t events = int64_t(time.size());
    meet({time.data(), unit.data(), start.data(), used.data(), tau.data(), first.data(), last.data(), x, x + events, x + 2 * events, previous.data()},
         int64_t(start.size()) - 1, int64_t(used.size()));
}

}  // namespace

void define_short_term(nb::module_& m) {
    m.def("meet", &meet_door, "time"_a, "unit"_a, "start"_a, "used"_a, "tau"_a, "first"_a, "last"_a, "found"_a, "previous"_a);
}

}  // namespace spikeloop
