// Activations times weights in the array of a chip, as its parts distort them. Single precision: of whole numbers, sums are
// exact.
#pragma once
#include <cstdint>

namespace spikeloop {

// A part of the array, the weights that it holds, and how it is used.
struct Tile {
    int64_t rows = 0, columns = 0;
    const int8_t* weight = nullptr;   // (rows, columns)
    const float* synapse = nullptr;   // gain of the excitatory synapse of row 0, column 0; the inhibitory one is `stride` later,
    int64_t stride = 0;               // the next row's `2 stride`
    const float* pulse = nullptr;     // (rows,) what is added to each activation that is not 0, but not to below 0
    // (columns,) each:
    const float* gain = nullptr;      // steps of the result per activation and weight step
    const float* offset = nullptr;    // steps
    const float* below = nullptr;     // 1 / how many steps below `low` the result can get at most; 0: as many as you like
    const float* above = nullptr;     // likewise above `high`
    float low = 0, high = 0;          // steps: between these the result is linear
    float noise = 0;                  // rms, steps
    uint64_t key = 0;                 // of its streams, one a sample
};

// result (batch, tile.columns) of activation (batch, tile.rows): floor(gain sum + offset + noise), saturated, cut to 8 bits.
void multiply(const Tile& tile, const uint8_t* activation, int64_t batch, int8_t* result, int threads);

}  // namespace spikeloop
