// What is looked at lane by lane at the end of a step: peaks, and membranes with noise.

template <class T>
__attribute__((noinline)) void see_peaks(SteppedWay<T>& x, int64_t l, const Vector<T>& v, double end) {
    for (int k = 0; k < kLanes<T>; ++k)
        if (v[k] > x.peak[l + k] && v[k] < x.level[l + k]) x.peak[l + k] = v[k], x.peak_time[l + k] = end;
}

// Which noisy lanes of a compartment, below their thresholds at v0 and at v1 after step k, met them: in place of `meets`. The
// noise after the step is left in `after`.
template <class T, class Mask>
__attribute__((noinline)) void meet_noisy(const SteppedLayer<T>& p, SteppedWay<T>& x, int64_t l, int64_t k, const Vector<T>& v0, const Vector<T>& v1,
                                          double end, Mask& meets) {
    for (int lane = 0; lane < kLanes<T>; ++lane) {
        const int64_t at = l + lane;
        if (!(p.rms[at] > 0)) continue;
        meets[lane] = 0, x.after[at] = 0;
        if (x.free[at] >= end) continue;
        Stream random{keyed(x.stream[at], uint64_t(k))};
        x.after[at] = x.noise[at] * p.decay[at] + p.kick[at] * random.normal();
        const double below = double(x.level[at]) - double(v0[lane]) - x.noise[at], left = double(x.level[at]) - double(v1[lane]) - x.after[at];
        if (below <= 0) continue;
        if (left <= 0 || (2 * below * left < 40 * p.spread[at] && random.uniform() < std::exp(-2 * below * left / p.spread[at]))) meets[lane] = -1;
    }
}
