// Short-term plasticity: what events find of a synapse driver's resources x, which are 1 at rest.
#pragma once
#include <algorithm>
#include <cstdint>

namespace spikeloop {

// x after `wait` since an event that met `before` and used the fraction `used` of it, relaxed by `decay` since. One function
// for all: runs that are cut shall find the same bits.
double resource(double before, double used, double decay);
double relaxed(double wait, double tau);

// How large an event of a unit is that meets x: base + slope x, and never negative; (units,) each.
struct EventSize {
    const double *base = nullptr, *slope = nullptr;
    double of(int32_t unit, double x) const { return std::max(base[unit] + slope[unit] * x, 0.0); }
};

// The events of a batch, and what they find; all per event (E,), but for used, tau (units,) and first, last (batch, units).
struct Resources {
    const double* time;
    const int32_t* unit;
    const int64_t* start;
    const double *used, *tau;
    double *first, *last;  // x at the latest event of each unit and when that was; brought up to date
    double *x, *decay, *before;
    int64_t* previous;     // the event before of the same unit in this run, or -1
};
void meet(const Resources& events, int64_t batch, int64_t units);

// The same for a source within a stage: of one unit after the other as it spikes, and for its adjoint.
struct Driver {
    const double *used = nullptr, *tau = nullptr;      // (units,); null: every event has the size 1
    const double *first = nullptr, *last = nullptr;    // (batch, units)
    const double* recent = nullptr;                    // sizes of the events that the source's trains bring
    EventSize event;
    // of every spike of the record: its size, dx/dt, and how x at the next event changes with x at this one
    const double *size = nullptr, *slope = nullptr, *kept = nullptr;
    explicit operator bool() const { return used != nullptr; }
};

// The spikes of a source on a grid of steps, and what they met. One more spike in a step would take the fraction U of what the
// step's first spike met, or of what is there in its middle, and be as large as a spike there.
struct Drawn {
    const double* time = nullptr;  // (E,) all of them, null: the events of this source draw on nothing
    const int32_t* unit = nullptr;
    const int64_t* start = nullptr;                          // (batch + 1,)
    const double* x = nullptr;
    const int64_t *previous = nullptr, *step = nullptr;      // step: of spikes from before the run, which are given, before all others
    const double *used = nullptr, *tau = nullptr;            // (units,)
    const double *first = nullptr, *last = nullptr;          // (batch, units)
    int64_t units = 0;
    EventSize event;
    explicit operator bool() const { return time != nullptr; }
};

// Where a sweep back through the steps of one sample is, (units,) each: dL/dx right before the spike that comes next, which that is
// and which was the latest one (-1: none); next: one past the sample's spikes that are not passed yet.
struct DrawnState {
    double* ahead;
    int64_t *coming, *latest;
    int64_t* next;
};
void set_out(const Drawn& of, const DrawnState& state, int64_t sample);

// dL/dS of a step, (units,), in place of what it would be if one more spike had the size 1 and took nothing; the steps after it
// have been passed. by_size: dL/d(size) of the sample's spikes.
template <class T>
void draw_back(const Drawn& of, const DrawnState& state, int64_t sample, int64_t step, double middle, const double* by_size, T* felt);

}  // namespace spikeloop
