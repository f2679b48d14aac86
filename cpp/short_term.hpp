// Short-term plasticity: what events find of a synapse driver's resources x, which are 1 at rest.
#pragma once
#include <cstdint>

namespace spikeloop {

// x after `wait` since an event that met `before` and used the fraction `used` of it, relaxed by `decay` since. One function
// for all: runs that are cut shall find the same bits.
double resource(double before, double used, double decay);
double relaxed(double wait, double tau);

// How large an event is that meets x.
inline double event_size(double x, double used, bool facilitating) { return facilitating ? 1 - (1 - used) * x : used * x; }

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
    bool facilitating = false;
    // of every spike of the record: its size, dx/dt, and how x at the next event changes with x at this one
    const double *size = nullptr, *slope = nullptr, *kept = nullptr;
    explicit operator bool() const { return used != nullptr; }
    double by_size(int32_t unit) const { return facilitating ? used[unit] - 1 : used[unit]; }  // d(size)/dx
};

}  // namespace spikeloop
