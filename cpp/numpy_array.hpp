// NumPy arrays as they come from Python.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace spikeloop {

template <class T, int D>
using Array = nanobind::ndarray<T, nanobind::numpy, nanobind::ndim<D>, nanobind::c_contig, nanobind::device::cpu>;

}  // namespace spikeloop
