// Python's way to short_term.hpp.
#include <nanobind/stl/tuple.h>

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

// time, unit, start, x, previous, step (all of the events but start); used, tau, base, slope; x at the latest events before, when
using DrawnIn = std::tuple<Array<const double, 1>, Array<const int32_t, 1>, Array<const int64_t, 1>, Array<const double, 1>, Array<const int64_t, 1>,
                           Array<const int64_t, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 1>, Array<const double, 1>,
                           Array<const double, 2>, Array<const double, 2>>;
// ahead, coming, latest (batch, units), next (batch,)
using StateIn = std::tuple<Array<double, 2>, Array<int64_t, 2>, Array<int64_t, 2>, Array<int64_t, 1>>;

Drawn drawn_of(const DrawnIn& in) {
    const auto& [time, unit, start, x, previous, step, used, tau, base, slope, first, last] = in;
    return {time.data(), unit.data(), start.data(), x.data(), previous.data(), step.data(), used.data(), tau.data(), first.data(), last.data(),
            int64_t(used.size()), {base.data(), slope.data()}};
}

DrawnState state_of(const StateIn& in, int64_t sample, int64_t units) {
    const auto& [ahead, coming, latest, next] = in;
    return {ahead.data() + sample * units, coming.data() + sample * units, latest.data() + sample * units, next.data() + sample};
}

void set_out_door(const DrawnIn& in, const StateIn& state) {
    const Drawn of = drawn_of(in);
    for (int64_t b = 0; b < int64_t(std::get<2>(in).size()) - 1; ++b) set_out(of, state_of(state, b, of.units), b);
}

// felt: (steps, batch, units) of the steps from `first` on, the last one first; origin: (batch,) when step 0 begins.
template <class T>
void draw_back_door(const DrawnIn& in, const StateIn& state, int64_t first, const Array<const double, 1>& origin, double step,
                    const Array<const double, 1>& by_size, const Array<T, 3>& felt) {
    const Drawn of = drawn_of(in);
    const int64_t batch = int64_t(felt.shape(1));
    for (int64_t k = int64_t(felt.shape(0)) - 1; k >= 0; --k)
        for (int64_t b = 0; b < batch; ++b)
            draw_back(of, state_of(state, b, of.units), b, first + k, origin.data()[b] + (double(first + k) + 0.5) * step, by_size.data() + of.start[b],
                      felt.data() + (k * batch + b) * of.units);
}

}  // namespace

void define_short_term(nb::module_& m) {
    m.def("set_out", &set_out_door, "of"_a, "state"_a);
    m.def("draw_back_single", &draw_back_door<float>, "of"_a, "state"_a, "first"_a, "origin"_a, "step"_a, "by_size"_a, "felt"_a);
    m.def("draw_back_double", &draw_back_door<double>, "of"_a, "state"_a, "first"_a, "origin"_a, "step"_a, "by_size"_a, "felt"_a);
    m.def("meet", &meet_door, "time"_a, "unit"_a, "start"_a, "used"_a, "tau"_a, "first"_a, "last"_a, "found"_a, "previous"_a);
}

}  // namespace spikeloop
