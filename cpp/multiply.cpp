// Weights are distorted once and laid out panel by panel; a few samples at a time pass all panels, so that both stay in the
// cache, and a block of sums stays in registers.
#include "multiply.hpp"

#include <algorithm>
#include <vector>

#include "noise.hpp"
#include "simd.hpp"
#include "threads.hpp"

namespace spikeloop {
namespace {

constexpr int kPanel = 2 * kLanes<float>;  // columns
constexpr int64_t kTogether = 48;          // samples
constexpr int kColumnArrays = 4;

// What a tile's panels need, padded to whole ones.
struct Panels {
    const Tile& tile;
    int64_t count;
    std::vector<float> weight;  // (panels, rows, kPanel)
    std::vector<float> column;  // (panels, kColumnArrays, kPanel): gain, offset, below, above
    explicit Panels(const Tile& tile) : tile(tile), count((tile.columns + kPanel - 1) / kPanel) {
        weight.resize(count * tile.rows * kPanel), column.resize(count * kColumnArrays * kPanel);
    }
    int width(int64_t panel) const { return int(std::min<int64_t>(kPanel, tile.columns - panel * kPanel)); }
};

}  // namespace
}  // namespace spikeloop

#define SPIKELOOP_KERNEL "multiply.inl"
#include "each_target.hpp"

namespace spikeloop {

void multiply(const Tile& tile, const uint8_t* activation, int64_t batch, int8_t* result, int threads) {
    if (batch == 0 || tile.columns == 0) return;
    Panels panels(tile);
    const double products = double(tile.rows * tile.columns);
    parallel_for(panels.count, worthwhile(threads, 0.2 * products), 1, [&](int64_t panel) { SPIKELOOP_BEST(lay_out(panels, panel)); });
    const int64_t groups = (batch + kTogether - 1) / kTogether;
    parallel_for(groups, worthwhile(threads, double(batch) * (0.02 * products + double(tile.columns))), 1, [&](int64_t group) {
        const int64_t first = group * kTogether;
        SPIKELOOP_BEST(pass(panels, activation + first * tile.rows, first, std::min(kTogether, batch - first), result + first * tile.columns));
    });
}

}  // namespace spikeloop
