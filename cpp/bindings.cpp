// Python's way into the core: views of NumPy arrays in, filled arrays out. Outputs of known size are allocated by the caller.
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "arguments.hpp"
#include "finite.hpp"
#include "results.hpp"
#include "simd.hpp"
#include "stepped.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {

void define_bus(nb::module_& m);
void define_chip(nb::module_& m);
void define_codes(nb::module_& m);
void define_correlation(nb::module_& m);
void define_dense(nb::module_& m);
void define_disturbed(nb::module_& m);
void define_losses(nb::module_& m);
void define_multiply(nb::module_& m);
void define_queue(nb::module_& m);
void define_short_term(nb::module_& m);
void define_step(nb::module_& m);
void define_stepped(nb::module_& m);

namespace {

bool finite_door(const std::vector<std::variant<Array<const float, 1>, Array<const double, 1>>>& arrays) {
    for (const auto& array : arrays)
        if (!std::visit([](const auto& x) { return all_finite(x.data(), int64_t(x.size())); }, array)) return false;
    return true;
}

double latest_door(const TrainsIn& trains) { return trains_of(trains).latest(batch_of(trains)); }

nb::object counts_door(const TrainsIn& trains, int64_t size) {
    Made<float, 2> out(batch_of(trains), size);
    trains_of(trains).count(batch_of(trains), size, out.values.get());
    return out.to_python();
}

// The samples `index`, one after the other.
nb::object gathered_door(const TrainsIn& trains, const Array<const int64_t, 1>& index, int threads) {
    constexpr double kEvent = 1, kSample = 50;  // about, ns
    const Trains all = trains_of(trains);
    const int64_t batch = batch_of(trains), samples = int64_t(index.size()), *chosen = index.data();
    for (int64_t s = 0; s < samples; ++s)
        if (chosen[s] < 0 || chosen[s] >= batch) throw std::out_of_range("a sample that does not exist");
    Spikes out(samples, [&](int64_t s) { return all.size(chosen[s]); });
    parallel_groups(samples, worthwhile(threads, kEvent * double(out.size()) + kSample * double(samples)), 64, [&](int64_t s) {
        const int64_t from = all.start[chosen[s]], to = out.start[s], count = out.start[s + 1] - to;
        std::copy_n(all.time + from, count, out.time.get() + to), std::copy_n(all.unit + from, count, out.unit.get() + to);
    });
    return handed_over(out);
}

// An exception of this module with the sample, the unit and the number of the population that it is about.
void raise(const char* name, int64_t sample, int64_t unit, int64_t population) {
    PyErr_SetObject(nb::module_::import_("spikeloop.engine._core").attr(name).ptr(), nb::make_tuple(sample, unit, population).ptr());
}

void translate(const std::exception_ptr& thrown, void*) {
    try {
        std::rethrow_exception(thrown);
    } catch (const Explosion& e) {
        raise("Explosion", e.sample, e.unit, e.stage);
    } catch (const Divergence& e) {
        raise("Divergence", e.sample, e.unit, e.population);
    } catch (const Interrupted&) {
        if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
}

}  // namespace
}  // namespace spikeloop

NB_MODULE(_core, m) {
    using namespace spikeloop;
    m.doc() = "The native engine: event-driven forward and adjoint passes over NumPy arrays.";
    interrupt_check() = [] {
        nb::gil_scoped_acquire acquire;
        return PyErr_CheckSignals() != 0;
    };
    m.attr("Explosion") = nb::handle(PyErr_NewException("spikeloop.engine._core.Explosion", PyExc_RuntimeError, nullptr));
    m.attr("Divergence") = nb::handle(PyErr_NewException("spikeloop.engine._core.Divergence", PyExc_RuntimeError, nullptr));
    nb::register_exception_translator(translate, nullptr);
    m.def("instruction_set", &target_name);
    m.def("finite", &finite_door, "arrays"_a.noconvert());
    m.def("counts", &counts_door, "trains"_a.noconvert(), "size"_a);
    m.def("gathered", &gathered_door, "trains"_a.noconvert(), "index"_a.noconvert(), "threads"_a);
    m.def("latest", &latest_door, "trains"_a.noconvert());
    define_bus(m);
    define_chip(m);
    define_codes(m);
    define_correlation(m);
    define_dense(m);
    define_disturbed(m);
    define_losses(m);
    define_multiply(m);
    define_queue(m);
    define_short_term(m);
    define_step(m);
    define_stepped(m);
}
