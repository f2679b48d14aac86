// What is the same for all weights.
template <class T>
struct Step {
    Vector<T> keep, new1, new2, reach, scale, epsilon, decay, sign;
    Step(const Adam& adam, double rate, double number)
        : keep(all(adam.beta2)), new1(all(1 - adam.beta1)), new2(all(1 - adam.beta2)), reach(all(-rate / (1 - std::pow(adam.beta1, number)))),
          scale(all(std::sqrt(1 - std::pow(adam.beta2, number)))), epsilon(all(adam.epsilon)), decay(all(adam.decay)),
          sign(all(adam.maximise ? -1 : 1)) {}
    static Vector<T> all(double x) { return T(x) - Vector<T>{}; }
};

// The first `count` columns of `rows` rows, which begin `stride` numbers apart.
template <class T, bool Whole>
bool update_rows(const Step<T>& step, const Moments<T>& of, int64_t rows, int64_t stride, int count) {
    Vector<T> wrong{};
    for (int64_t at = 0; at < rows * stride; at += stride) {
        const Vector<T> weight = load_block<T, Whole>(of.weight + at, count);
        const Vector<T> slope = step.sign * load_block<T, Whole>(of.gradient + at, count) + step.decay * weight;
        const Vector<T> before = load_block<T, Whole>(of.mean + at, count), mean = before + step.new1 * (slope - before);
        const Vector<T> square = load_block<T, Whole>(of.square + at, count) * step.keep + step.new2 * slope * slope;
        const Vector<T> after = weight + step.reach * mean / (root(square) / step.scale + step.epsilon);
        store_block<T, Whole>(of.weight + at, after, count);
        store_block<T, Whole>(of.mean + at, mean, count);
        store_block<T, Whole>(of.square + at, square, count);
        const Vector<T> kept = load_block<T, Whole>(of.weight + at, count);
        wrong += kept - kept;
    }
    return !any(wrong != 0);
}

template <class T>
bool update_columns(const Adam& adam, const Moments<T>& of, double rate, int64_t first, int count) {
    const Step<T> step(adam, rate, of.steps + 1);
    return count == kLanes<T> ? update_rows<T, true>(step, of.from(first), of.rows, of.columns, count)
                              : update_rows<T, false>(step, of.from(first), of.rows, of.columns, count);
}

// Numbers first .. last of all, as they lie in memory.
template <class T>
bool update_numbers(const Adam& adam, const Moments<T>& of, double rate, int64_t first, int64_t last) {
    constexpr int N = kLanes<T>;
    const Step<T> step(adam, rate, of.steps + 1);
    const int64_t whole = (last - first) / N, rest = first + whole * N;
    const bool finite = update_rows<T, true>(step, of.from(first), whole, N, N);
    return (rest == last || update_rows<T, false>(step, of.from(rest), 1, N, int(last - rest))) && finite;
}
