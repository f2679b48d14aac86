// What happens to a neuron in its record beside arrivals, in the order in which an adjoint has to undo it.
#pragma once
#include "stage.hpp"

namespace spikeloop {

enum class MarkKind : int8_t { spike, release, sample };  // in this order at equal times

struct Mark {
    double time;
    MarkKind kind;
    bool peak = false;         // of a sample: it is the membrane's maximum
    bool held_before = false;  // of a spike: observed while V was still held after the one before
    bool released = false;     // of a spike: V is free right after it, there is no refractory period
    double cotangent = 0;      // of a sample
    int64_t spike = -1;        // row of the population's spikes (spike, release)
    double i = 0;              // current at the mark, where what follows makes use of it
    double v_after = 0;        // v right after it (the current is continuous there)
    int32_t flow = 0;          // where the flow up to it is kept, if it is
    int32_t stretch = -1;      // how many arrivals come before it, once that is known
    bool held_after(bool held) const { return kind == MarkKind::sample ? held : kind == MarkKind::spike && !released; }
};

// Those of one neuron, in room that is kept for them; what a `std::vector` of them would do.
struct Marks {
    Mark *first = nullptr, *last = nullptr;
    Mark* begin() const { return first; }
    Mark* end() const { return last; }
    size_t size() const { return size_t(last - first); }
    bool empty() const { return first == last; }
    Mark& back() const { return last[-1]; }
    Mark& operator[](size_t k) const { return first[k]; }
    void push_back(const Mark& mark) { *last++ = mark; }
    void pop_back() { --last; }
};
inline constexpr int kMarksOfSpike = 2;  // at most

// A neuron that starts held at reset is released without a spike of this trial.
template <class List>
void add_start_mark(List& marks, double held, double duration) {
    if (held > 0 && held <= duration) marks.push_back({held, MarkKind::release});
}

// Marks of one neuron from its spike times (ascending) and membrane cotangents. A peak at a spike is the threshold itself:
// its cotangent goes to `threshold_gradient` and leaves no mark.
template <class List>
inline __attribute__((always_inline)) void add_spike_marks(List& marks, double time, int64_t spike, const Neuron& n, double duration,
                            int32_t stretch = -1) {
    bool held = false;
    if (!marks.empty() && marks.back().kind == MarkKind::release && marks.back().time > time) {
        marks.pop_back();  // an observed spike inside the model's refractory period: V was never released
        held = true;
    } else if (!marks.empty() && marks.back().held_after(false)) {
        held = true;  // its release lies after the end
    }
    marks.push_back({time, MarkKind::spike, false, held, n.refractory == 0, 0, spike});
    marks.back().stretch = stretch;
    if (n.refractory > 0 && time + n.refractory <= duration) marks.push_back({time + n.refractory, MarkKind::release, false, false, false, 0, spike});
}

// `given`: how long V is held from the start on. It is then what the state says, and a sample of it depends on nothing.
template <class List>
void add_membrane_mark(List& marks, size_t spike_marks, const MembraneCotangent& c, double begin, double given,
                              double& threshold_gradient) {
    const double time = c.time - begin;
    if (time < given) {
        const auto last = marks.begin() + ptrdiff_t(spike_marks);
        const auto spike = std::find_if(marks.begin(), last, [](const Mark& mark) { return mark.kind == MarkKind::spike; });
        if (spike == last || spike->time > time) return;
    }
    if (c.peak)
        for (size_t k = 0; k < spike_marks; ++k)
            if (marks[k].kind == MarkKind::spike && marks[k].time == time) {
                threshold_gradient += c.value;
                return;
            }
    marks.push_back({time, MarkKind::sample, c.peak, false, false, c.value});
}

template <class List>
void sort_marks(List& marks) {
    const auto before = [](const Mark& x, const Mark& y) { return x.time < y.time; };
    if (!std::is_sorted(marks.begin(), marks.end(), before)) std::stable_sort(marks.begin(), marks.end(), before);
}

// Undo one mark; `held` tells whether V is held right after it and is updated to right before it.
// `spike_cotangent` is dL/dt of all spikes of the population.
template <class Gradient>
inline void mark_back(const Neuron& n, const Mark& mark, Adjoint& l, bool& held, double* spike_cotangent, SlopeFloor& slope,
                      Gradient& grad) {
    switch (mark.kind) {
        case MarkKind::sample:
            if (held)
                grad.reset += mark.cotangent;
            else
                l.v -= mark.cotangent * n.a;
            return;
        case MarkKind::release:
            if (mark.spike >= 0)
                spike_cotangent[mark.spike] += release_back(n, l, mark.i, grad);
            else
                l.v = 0;  // what V was released from, and when, the state said
            held = true;
            return;
        case MarkKind::spike:
            if (mark.released) spike_cotangent[mark.spike] += release_back(n, l, mark.i, grad);
            spike_back(n, l, spike_cotangent[mark.spike], mark.i, slope, grad);
            held = mark.held_before;
            if (held) l.v = 0;
    }
}

// The adjoint at the start of the trial: V(0) is leak, or reset where leak >= threshold, unless a state was given.
template <class Gradient>
inline void start_back(const Neuron& n, const Adjoint& l, bool continued, Gradient& grad) {
    if (continued) return;
    (n.rises_to_threshold() ? grad.reset : grad.leak) -= l.v / n.a;
}

}  // namespace spikeloop
