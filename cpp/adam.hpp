// Adam (Kingma and Ba, 1412.6980): one step of arrays of weights.
#pragma once
#include <cstdint>

namespace spikeloop {

struct Adam {
    double beta1, beta2, epsilon, decay;  // decay: of the weights, as a part of their gradient
    bool maximise;
};

// Weights (rows, columns) and the running means of their gradients and of the squares of these, after `steps` steps.
template <class T>
struct Moments {
    T *weight, *mean, *square, *gradient;
    int64_t rows, columns;
    double steps;
    int64_t count() const { return rows * columns; }
    Moments from(int64_t place) const { return {weight + place, mean + place, square + place, gradient + place, rows, columns, steps}; }
};

// One more step of `count` columns, no more than a vector has; whether their weights are numbers.
template <class T>
bool update(const Adam& adam, const Moments<T>& of, double rate, int64_t first, int count);

// Of all, with the same numbers.
template <class T>
bool update(const Adam& adam, const Moments<T>& of, double rate, int threads);

}  // namespace spikeloop
