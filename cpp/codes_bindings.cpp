// Python's way to codes.hpp.
#include "codes.hpp"
#include "numpy_array.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

template <class T>
nb::tuple rounded_door(const Array<const T, 2>& weight, const Array<const T, 1>& unit, int most, double exact, const Array<int32_t, 2>& code, const Array<T, 2>& executed) {
    const Change change = rounded<T>({int64_t(weight.shape(0)), int64_t(weight.shape(1)), weight.data(), unit.data(), T(most), T(exact), code.data(), executed.data()});
    return nb::make_tuple(change.beyond, change.between, change.squares);
}

void lay_door(const Array<const int32_t, 2>& code, const Array<const int64_t, 2>& place, int row, int rows, int64_t below, const Array<uint8_t, 1>& array) {
    lay(code.data(), place.data(), int64_t(code.size()), row, rows, below, array.data());
}

void wire_door(const Array<const uint8_t, 1>& code, const Array<const float, 1>& height, const Array<const int32_t, 1>& synapse,
               const Array<const int32_t, 1>& first, const Array<float, 2>& weight, int threads) {
    nb::gil_scoped_release release;
    wire(code.data(), height.data(), synapse.data(), first.data(), int64_t(weight.size()), weight.data(), threads);
}

void highest_door(const Array<const uint8_t, 3>& reading, const Array<uint8_t, 2>& value, const Array<int64_t, 2>& which, int threads) {
    nb::gil_scoped_release release;
    highest(reading.data(), int64_t(reading.shape(0)), int64_t(reading.shape(1)), int64_t(reading.shape(2)), value.data(), which.data(), threads);
}

}  // namespace

void define_codes(nb::module_& m) {
    m.def("rounded", &rounded_door<float>, "weight"_a.noconvert(), "unit"_a.noconvert(), "most"_a, "exact"_a, "code"_a.noconvert(), "executed"_a.noconvert());
    m.def("rounded", &rounded_door<double>, "weight"_a.noconvert(), "unit"_a.noconvert(), "most"_a, "exact"_a, "code"_a.noconvert(), "executed"_a.noconvert());
    m.def("lay", &lay_door, "code"_a.noconvert(), "place"_a.noconvert(), "row"_a, "rows"_a, "below"_a, "array"_a.noconvert());
    m.def("highest", &highest_door, "reading"_a.noconvert(), "value"_a.noconvert(), "which"_a.noconvert(), "threads"_a);
    m.def("wire", &wire_door, "code"_a.noconvert(), "height"_a.noconvert(), "synapse"_a.noconvert(), "first"_a.noconvert(), "weight"_a.noconvert(), "threads"_a);
}

}  // namespace spikeloop
