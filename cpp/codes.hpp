// Weights on their way to the codes of an array of synapses, and from there to neurons; and codes that were read.
#pragma once
#include <cstdint>

namespace spikeloop {

// Weights (sources, targets) as whole numbers of their unit (targets,) within +- most; what these are as weights.
template <class T>
struct Rounding {
    int64_t sources, targets;
    const T *weight, *unit;
    T most, exact;  // what differs by up to `exact` counts as whole
    int32_t* code;
    T* executed;
};

// How many were out of range by more than half a unit, how many others not whole; the squares of that, in units.
struct Change {
    int64_t beyond = 0, between = 0;
    double squares = 0;
};

template <class T>
Change rounded(const Rounding<T>& wanted);

// Writes the share that row pair `row` of `rows` has of each code: positive ones at `place`, negative ones `below` further.
void lay(const int32_t* code, const int64_t* place, int64_t count, int32_t row, int32_t rows, int64_t below, uint8_t* array);

// Sums of code x height, of cell c over synapse[first[c]] .. synapse[first[c + 1]].
void wire(const uint8_t* code, const float* height, const int32_t* synapse, const int32_t* first, int64_t cells, float* weight, int threads);

// The highest of the readings (runs, times, channels), (runs, channels), and which it is, the first of equal ones.
void highest(const uint8_t* reading, int64_t runs, int64_t times, int64_t channels, uint8_t* value, int64_t* which, int threads);

}  // namespace spikeloop
