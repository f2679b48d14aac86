// A check that ends the program when it fails, and the lists of cases that main() runs.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace spikeloop::tests {

struct Case {
    const char* name;
    void (*run)();
};

std::vector<Case> neuron_cases();
std::vector<Case> forward_cases();
std::vector<Case> adjoint_cases();
std::vector<Case> disturbed_cases();
std::vector<Case> multiply_cases();
std::vector<Case> stepped_cases();
std::vector<Case> plasticity_cases();
std::vector<Case> adam_cases();
std::vector<Case> descent_cases();
std::vector<Case> bus_cases();
std::vector<Case> threads_cases();
void read_out_of_bounds();  // a mistake planted on purpose: the sanitizer must find it

}  // namespace spikeloop::tests

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                  \
        }                                                                                  \
    } while (false)
