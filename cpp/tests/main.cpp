// Runs every case of the core. `core_tests --plant` makes a mistake instead that a sanitizer has to catch.
#include <cstring>

#include "checks.hpp"

int main(int count, char** arguments) {
    using namespace spikeloop::tests;
    if (count > 1 && std::strcmp(arguments[1], "--plant") == 0) {
        read_out_of_bounds();
        std::puts("the mistake went unseen");
        return 0;
    }
    int passed = 0;
    for (const auto& list : {neuron_cases(), forward_cases(), adjoint_cases(), disturbed_cases(), multiply_cases(), stepped_cases(), plasticity_cases(), adam_cases(), descent_cases(), bus_cases(), threads_cases()})
        for (const Case& each : list) {
            std::printf("%s\n", each.name);
            std::fflush(stdout);
            each.run();
            ++passed;
        }
    std::printf("%d cases passed\n", passed);
}
