// Loops that the compiler turns into vector instructions itself, compiled for several instruction sets.
#pragma once
#include "simd.hpp"

#if SPIKELOOP_TARGETS && defined(__gnu_linux__) && __GNUC__ >= 12
#define SPIKELOOP_CLONED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SPIKELOOP_CLONED
#endif
