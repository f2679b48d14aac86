// Flows of many neurons over multiples of a tick, made by composing flows:
//   over D1 and then D2:  em = em1 em2,  es = es1 es2,  g = em2 g1 + g2 es1.
// They lie block by block, so that those of a block stay in the cache while samples pass it.
#pragma once
#include <vector>

#include "simd.hpp"
#include "stage.hpp"

namespace spikeloop {

// Neurons of a block, which stay in registers.
inline constexpr int kBlockVectors = 4, kBlock = kBlockVectors * kLanes<float>;

// Of the neurons of a block, over one and the same time.
struct BlockFlows {
    alignas(64) float em[kBlock], es[kBlock], g[kBlock];
};

// A time as whole ticks, -1 if there are too many for the table, and what is left of it, s, of either sign.
struct Ticks {
    int32_t whole;
    float rest;
};

struct FlowTable {
    static constexpr int kFine = 128, kCoarse = 64;  // multiples of a tick, and of kFine of them

    std::vector<double> a, b;          // of each neuron, padded to whole blocks
    std::vector<float> single_a, single_b;
    double tick = 0, per_tick = 0;     // s, and its inverse
    std::vector<BlockFlows> flows;     // (blocks, kFine + kCoarse)

    Ticks ticks(double dt) const {
        const double many = dt * per_tick + 0.5;
        if (!(many < kFine * kCoarse)) return {-1, 0};
        const int32_t whole = int32_t(many);
        const double rest = dt - whole * tick;
        return {whole, std::abs(rest) > 1e-4 * tick ? float(rest) : 0.0f};
    }
    const BlockFlows& fine(int64_t block, int32_t k) const { return flows[block * (kFine + kCoarse) + k]; }
    const BlockFlows& coarse(int64_t block, int32_t k) const { return fine(block, kFine + k); }
};

}  // namespace spikeloop
