// Adam: block of columns by block of columns as all at once, within its arrays.
#include <cmath>
#include <random>

#include "adam.hpp"
#include "checks.hpp"
#include "simd.hpp"

namespace spikeloop::tests {
namespace {

// Weights after two steps, in arrays of exactly the right length.
template <class T>
struct Trained {
    int64_t rows, columns;
    std::vector<T> weight, mean, square, gradient;

    Trained(int64_t rows, int64_t columns) : rows(rows), columns(columns), mean(rows * columns), square(rows * columns) {
        std::mt19937_64 random{5};
        for (int64_t k = 0; k < rows * columns; ++k) weight.push_back(T(int(random() % 100) - 50) / 64), gradient.push_back(T(int(random() % 100) - 50));
    }
    Moments<T> after(double steps) { return {weight.data(), mean.data(), square.data(), gradient.data(), rows, columns, steps}; }
    bool by_columns(const Adam& adam) {
        bool finite = true;
        for (int steps = 0; steps < 2; ++steps)
            for (int64_t first = 0; first < columns; first += kLanes<T>)
                finite &= update(adam, after(steps), 0.01, first, int(std::min<int64_t>(kLanes<T>, columns - first)));
        return finite;
    }
    void at_once(const Adam& adam, int threads) {
        for (int steps = 0; steps < 2; ++steps) update(adam, after(steps), 0.01, threads);
    }
};

constexpr int64_t kShapes[][2] = {{1, 1}, {3, 16}, {5, 17}, {40, 7}, {0, 5}, {5, 0}, {300, 33}};

template <class T>
void columns_take_the_step_of_all() {
    for (const Adam& adam : {Adam{0.9, 0.999, 1e-8, 0, false}, Adam{0.5, 0.9, 0, 0.1, true}})
        for (const auto& [rows, columns] : kShapes) {
            Trained<T> one(rows, columns), other(rows, columns), start(rows, columns);
            CHECK(one.by_columns(adam));
            other.at_once(adam, 2);
            CHECK(one.weight == other.weight && one.mean == other.mean && one.square == other.square);
            CHECK(rows * columns == 0 || one.weight != start.weight);
            CHECK(one.gradient == start.gradient);
        }
}

void weights_that_are_no_numbers_are_told_of() {
    Trained<float> x(5, 17);
    x.gradient[4 * 17 + 16] = std::nanf("");
    CHECK(!x.by_columns({0.9, 0.999, 1e-8, 0, false}));
}

}  // namespace

std::vector<Case> adam_cases() {
    return {{"columns take Adam's step of all, float", columns_take_the_step_of_all<float>},
            {"columns take Adam's step of all, double", columns_take_the_step_of_all<double>},
            {"weights that are no numbers are told of", weights_that_are_no_numbers_are_told_of}};
}

}  // namespace spikeloop::tests
