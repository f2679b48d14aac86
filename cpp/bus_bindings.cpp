// Python's way to what lies around the neurons of a chip: events on their way in and out.
#include "arguments.hpp"
#include "bus_entered.hpp"
#include "bus_left.hpp"
#include "bus_lifted.hpp"
#include "bus_sent.hpp"
#include "results.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace spikeloop {
namespace {

// cycles, addresses, start of each run
template <class Word>
using SentIn = std::tuple<Array<const int64_t, 1>, Array<const Word, 1>, Array<const int64_t, 1>>;

template <class Word>
Sent<Word> sent_of(const SentIn<Word>& in) { return {std::get<0>(in).data(), std::get<1>(in).data(), std::get<2>(in).data()}; }

template <class Word>
int64_t runs_of(const SentIn<Word>& in) { return int64_t(std::get<2>(in).size()) - 1; }

nb::tuple sent_door(const TrainsIn& events, double seconds, const Array<const int64_t, 1>& of, int64_t depth, int threads) {
    const Trains trains = trains_of(events);
    const int64_t batch = batch_of(events), count = trains.start[batch];
    Made<int64_t> cycle(count);
    Made<uint16_t> to(count);
    {
        nb::gil_scoped_release release;
        send(trains, batch, seconds, of.data(), int64_t(of.size()), depth, cycle.values.get(), to.values.get(), threads);
    }
    return nb::make_tuple(cycle.to_python(), to.to_python());
}

template <class Word>
bool in_order_door(const SentIn<Word>& events, int threads) {
    const int64_t count = int64_t(std::get<0>(events).size());
    if (int64_t(std::get<1>(events).size()) != count) return false;
    nb::gil_scoped_release release;
    return in_order(sent_of(events), runs_of(events), count, threads);
}

// Seconds, sources, and whether all sources are known. links, depth, cycle, cycles
nb::tuple entered_door(const SentIn<uint16_t>& events, const Array<const int32_t, 1>& source, const std::tuple<int64_t, int64_t, double, int64_t>& how,
                       const Array<int64_t, 1>& lost, int threads) {
    const auto& [links, depth, cycle, cycles] = how;
    const Entry entry{links, depth, cycle, cycles, source.data()};
    const int64_t count = int64_t(std::get<0>(events).size());
    Made<double> time(count);
    Made<int32_t> from(count);
    const bool known = [&] {
        nb::gil_scoped_release release;
        return enter(sent_of(events), runs_of(events), entry, time.values.get(), from.values.get(), lost.data(), threads);
    }();
    return nb::make_tuple(time.to_python(), from.to_python(), known);
}

// late (or none), rms of it, sends, bus of each unit (or none), number of buses, depth, cycle, duration, cycles, label of each unit
using ExitIn = std::tuple<Maybe<const double, 1>, double, Array<const uint8_t, 1>, Maybe<const int32_t, 1>, int64_t, double, double, double, int64_t,
                          Array<const int64_t, 1>>;

nb::tuple left_door(const TrainsIn& spikes, const ExitIn& exit, const Array<int64_t, 1>& lost, int threads) {
    const auto& [late, rms, sends, bus, buses, depth, period, duration, cycles, labels] = exit;
    const Exit how{data(late), sends.data(), data(bus), buses, depth, period, duration, rms, cycles, labels.data()};
    Left left = [&] {
        nb::gil_scoped_release release;
        return departed(trains_of(spikes), batch_of(spikes), how, lost.data(), threads);
    }();
    const std::array size{size_t(left.spikes.size())};
    return nb::make_tuple(handed_over(left.spikes), handed_over(std::move(left.cycle), size), handed_over(std::move(left.address), size));
}

nb::tuple lifted_door(const Array<const int64_t, 1>& cycle, const Array<const uint16_t, 1>& address, const Array<const int64_t, 1>& start,
                      const Array<const int32_t, 1>& units, double period, int threads) {
    const int64_t batch = int64_t(start.size()) - 1, *from = start.data();
    if (address.size() != cycle.size() || batch < 0 || from[0] < 0 || from[batch] > int64_t(cycle.size()) || !std::is_sorted(from, from + batch + 1))
        throw std::out_of_range("runs do not share out their events");
    Spikes out = [&] {
        nb::gil_scoped_release release;
        return lift({cycle.data(), address.data(), from}, batch, units.data(), int64_t(units.size()), period, threads);
    }();
    return handed_over(out);
}

// When each event is passed on by its bus, in cycles, or a negative number: events come at any times, ascending in a run.
nb::object served(const TrainsIn& events, int64_t buses, double depth, int threads) {
    const Trains come = trains_of(events);  // units: their buses
    Made<double> out(std::get<0>(events).size());
    {
        nb::gil_scoped_release release;
        with_buses(batch_of(events), buses, depth, int64_t(out.shape[0]), threads, [&](int64_t s, Buses& all) {
            for (int64_t e = come.start[s]; e < come.start[s + 1]; ++e) out[e] = all.pass(come.unit[e], come.time[e]);
        });
    }
    return out.to_python();
}

void hold_back_door(const Array<int64_t, 1>& cycle, const Array<const int64_t, 1>& start, int64_t depth) {
    hold_back(cycle.data(), start.data(), int64_t(start.shape(0)) - 1, depth);
}

}  // namespace

void define_bus(nb::module_& m) {
    m.def("sent", &sent_door, "events"_a, "seconds"_a, "of"_a.noconvert(), "depth"_a, "threads"_a);
    m.def("in_order", &in_order_door<uint16_t>, "events"_a.noconvert(), "threads"_a);
    m.def("in_order", &in_order_door<int64_t>, "events"_a.noconvert(), "threads"_a);
    m.def("entered", &entered_door, "events"_a, "source"_a.noconvert(), "how"_a, "lost"_a.noconvert(), "threads"_a);
    m.def("left", &left_door, "spikes"_a.noconvert(), "exit"_a, "lost"_a.noconvert(), "threads"_a);
    m.def("lifted", &lifted_door, "cycle"_a.noconvert(), "address"_a.noconvert(), "start"_a.noconvert(), "units"_a.noconvert(), "period"_a, "threads"_a);
    m.def("served", &served, "events"_a, "buses"_a, "depth"_a, "threads"_a);
    m.def("hold_back", &hold_back_door, "cycle"_a.noconvert(), "start"_a.noconvert(), "depth"_a);
}

}  // namespace spikeloop
