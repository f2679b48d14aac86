// Flows of many neurons over multiples of a tick, made by composing flows:
//   over D1 and then D2:  em = em1 em2,  es = es1 es2,  g = em2 g1 + g2 es1.
#pragma once
#include <vector>

#include "simd.hpp"
#include "stage.hpp"

namespace spikeloop {

template <int N>
struct LaneFlows {
    alignas(64) float em[N], es[N], g[N];
};

class FlowTable {
  public:
    void build(const Neurons& neurons, int64_t stride, double tick) {
        stride_ = stride, tick_ = tick;
        a_.assign(stride, 0.0f), b_.assign(stride, 0.0f), neuron_.clear();
        std::vector<Flow> unit(stride, Flow{1, 1, 0}), coarse(stride);
        for (int64_t m = 0; m < neurons.size; ++m) {
            neuron_.push_back(neurons[m]);
            const Neuron& n = neuron_.back();
            a_[m] = float(n.a), b_[m] = float(n.b);
            unit[m] = flow(tick, n.a, n.b);
        }
        fill(fine_, unit, coarse, kFine);
        fill(coarse_, std::vector<Flow>(coarse), unit, kCoarse);
    }

    // The flows of neurons first .. first + N over dt >= 0.
    template <int N>
    SPIKELOOP_INLINE void set(LaneFlows<N>& out, int64_t first, double dt) const {
        const int64_t ticks = int64_t(dt / tick_ + 0.5);
        if (ticks >= int64_t(kFine) * kCoarse) return set_long(out, first, dt);
        const float* fine = fine_.data() + (ticks % kFine) * 3 * stride_ + first;
        for (int l = 0; l < N; ++l) out.em[l] = fine[l], out.es[l] = fine[l + stride_], out.g[l] = fine[l + 2 * stride_];
        if (ticks >= kFine) {
            const float* coarse = coarse_.data() + (ticks / kFine) * 3 * stride_ + first;
            for (int l = 0; l < N; ++l) {
                const float em = coarse[l], es = coarse[l + stride_], g = coarse[l + 2 * stride_];
                out.g[l] = em * out.g[l] + g * out.es[l];
                out.em[l] *= em, out.es[l] *= es;
            }
        }
        const double rest = dt - double(ticks) * tick_;  // within half a tick, of either sign
        if (std::abs(rest) > 1e-4 * tick_) add_rest(out, first, float(rest));
    }

  private:
    static constexpr int kFine = 64, kCoarse = 256;

    // Multiples 0 .. count - 1 of the flows `unit`; `next` becomes the one after them.
    void fill(std::vector<float>& table, const std::vector<Flow>& unit, std::vector<Flow>& next, int count) const {
        table.resize(3 * stride_ * count);
        std::fill(next.begin(), next.end(), Flow{1, 1, 0});
        for (int k = 0; k < count; ++k) {
            float* row = table.data() + k * 3 * stride_;
            for (int64_t m = 0; m < stride_; ++m) {
                Flow& f = next[m];
                row[m] = float(f.em), row[m + stride_] = float(f.es), row[m + 2 * stride_] = float(f.g);
                f.g = unit[m].em * f.g + unit[m].g * f.es;
                f.em *= unit[m].em, f.es *= unit[m].es;
            }
        }
    }

    template <int N>
    SPIKELOOP_INLINE void add_rest(LaneFlows<N>& out, int64_t first, float r) const {
        for (int l = 0; l < N; ++l) {
            const float x = a_[first + l] * r, y = b_[first + l] * r;
            const float em = 1 - x * (1 - x * (0.5f - x / 6)), es = 1 - y * (1 - y * (0.5f - y / 6));
            const float g = x * (1 - 0.5f * (x + y) + (x * x + x * y + y * y) / 6);
            out.g[l] = em * out.g[l] + g * out.es[l];
            out.em[l] *= em, out.es[l] *= es;
        }
    }

    template <int N>
    void set_long(LaneFlows<N>& out, int64_t first, double dt) const {
        for (int l = 0; l < N; ++l) {
            const bool real = first + l < int64_t(neuron_.size());
            const Flow f = real ? flow(dt, neuron_[first + l].a, neuron_[first + l].b) : Flow{1, 1, 0};
            out.em[l] = float(f.em), out.es[l] = float(f.es), out.g[l] = float(f.g);
        }
    }

    int64_t stride_ = 0;
    double tick_ = 0;
    std::vector<float> fine_, coarse_, a_, b_;  // (multiples, 3, stride)
    std::vector<Neuron> neuron_;
};

}  // namespace spikeloop
