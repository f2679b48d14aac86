// Python's way to the array as a multiplier.
#include "multiply.hpp"
#include "arguments.hpp"
#include "results.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// gains of a half's synapses, its first row and column that are used, offsets of the rows' pulses
using SynapsesIn = std::tuple<Array<const float, 2>, int64_t, int64_t, Array<const float, 1>>;
// between which steps results are linear, rms of their noise, key of its streams
using ReadoutIn = std::tuple<float, float, float, uint64_t>;

nb::object multiply_door(const Array<const int8_t, 2>& weight, const Array<const uint8_t, 2>& activation, const SynapsesIn& synapses,
                         const Array<const float, 2>& column, const ReadoutIn& readout, int threads) {
    const auto& [gain, row, first, pulse] = synapses;
    const auto& [low, high, noise, key] = readout;
    const int64_t stride = int64_t(gain.shape(1)), batch = int64_t(activation.shape(0)), columns = int64_t(weight.shape(1));
    const float* c = column.data();
    const Tile tile{int64_t(weight.shape(0)), columns, weight.data(), gain.data() + 2 * row * stride + first, stride, pulse.data(),
                    c, c + columns, c + 2 * columns, c + 3 * columns, low, high, noise, key};
    Made<int8_t, 2> out(batch, columns);
    {
        nb::gil_scoped_release release;
        multiply(tile, activation.data(), batch, out.values.get(), threads);
    }
    return out.to_python();
}

}  // namespace

void define_multiply(nb::module_& m) {
    m.def("multiply", &multiply_door, "weight"_a, "activation"_a, "synapses"_a, "column"_a, "readout"_a, "threads"_a);
}

}  // namespace spikeloop
