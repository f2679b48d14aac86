// The array as a multiplier: exact where nothing distorts it, the same on any number of threads, within its arrays.
#include <random>

#include "checks.hpp"
#include "multiply.hpp"

namespace spikeloop::tests {
namespace {

// A product in arrays of exactly the right length.
struct Product {
    int64_t rows, columns, batch;
    std::vector<int8_t> weight;
    std::vector<uint8_t> activation;
    std::vector<float> synapse, pulse, gain, offset, below, above;

    Product(int64_t rows, int64_t columns, int64_t batch, bool distorted) : rows(rows), columns(columns), batch(batch) {
        std::mt19937_64 random{7};
        for (int64_t w = 0; w < rows * columns; ++w) weight.push_back(int8_t(int(random() % 127) - 63));
        for (int64_t a = 0; a < batch * rows; ++a) activation.push_back(uint8_t(random() % 32));
        for (int64_t s = 0; s < 2 * rows * columns; ++s) synapse.push_back(distorted ? 0.9f + 0.01f * float(s % 20) : 1.0f);
        for (int64_t k = 0; k < rows; ++k) pulse.push_back(distorted ? 0.3f * float(k % 5) - 2.0f : 0.0f);
        for (int64_t c = 0; c < columns; ++c) {
            gain.push_back(distorted ? 0.002f + 1e-5f * float(c % 7) : 0.002f), offset.push_back(5e-5f + (distorted ? 0.5f * float(c % 9) : 0.0f));
            below.push_back(distorted ? 1 / (20 + float(c % 10)) : 0.0f), above.push_back(distorted && c % 3 == 0 ? 1 / 27.0f : 0.0f);
        }
    }
    std::vector<int8_t> result(float noise, int threads) const {
        std::vector<int8_t> out(batch * columns);
        multiply({rows, columns, weight.data(), synapse.data(), columns, pulse.data(), gain.data(), offset.data(), below.data(), above.data(), -85, 110, noise, 11},
                 activation.data(), batch, out.data(), threads);
        return out;
    }
    int64_t exact(int64_t sample, int64_t column) const {
        int64_t sum = 0;
        for (int64_t k = 0; k < rows; ++k) sum += int64_t(activation[sample * rows + k]) * weight[k * columns + column];
        const int64_t steps = (20 * sum - (20 * sum < 0 ? 9999 : 0)) / 10000;
        return std::min<int64_t>(std::max<int64_t>(steps, -128), 127);
    }
};

constexpr int64_t kShapes[][3] = {{1, 1, 1}, {128, 256, 101}, {3, 33, 13}, {77, 31, 49}, {128, 64, 12}, {5, 7, 0}, {4, 0, 3}, {0, 3, 2}};

void undistorted_products_are_exact() {
    for (const auto& [rows, columns, batch] : kShapes) {
        const Product x(rows, columns, batch, false);
        const std::vector<int8_t> found = x.result(0, 2);
        for (int64_t s = 0; s < batch; ++s)
            for (int64_t c = 0; c < columns; ++c) CHECK(found[s * columns + c] == x.exact(s, c));
    }
}

void distorted_products_do_not_depend_on_threads() {
    for (const auto& [rows, columns, batch] : kShapes) {
        const Product x(rows, columns, batch, true);
        const std::vector<int8_t> once = x.result(1.8f, 1);
        CHECK(once == x.result(1.8f, 3));
        CHECK(batch * columns < 50 || once != x.result(0, 1));
    }
}

}  // namespace

std::vector<Case> multiply_cases() {
    return {{"undistorted products are exact", undistorted_products_are_exact},
            {"distorted products do not depend on threads", distorted_products_do_not_depend_on_threads}};
}

}  // namespace spikeloop::tests
