// A vector whose numbers are not set where it grows: for what is written over anyway.
#pragma once
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace spikeloop {

template <class T>
struct Unset : std::allocator<T> {
    template <class U>
    struct rebind {
        using other = Unset<U>;
    };
    template <class U>
    void construct(U* at) {
        ::new (static_cast<void*>(at)) U;
    }
    template <class U, class... From>
    void construct(U* at, From&&... from) {
        ::new (static_cast<void*>(at)) U(std::forward<From>(from)...);
    }
};

template <class T>
using Room = std::vector<T, Unset<T>>;

}  // namespace spikeloop
