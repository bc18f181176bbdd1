// Kernels called with an array of arguments as the CUDA driver calls them, one launch after the other or overlapping.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "block.h"

namespace emu {

// What a parameter is, as text that the caller must match: p8 pointer, i4 i8 integer, f4 f8 float, s24 struct of 24 bytes.
template <typename T> void describe(char*& at) {
    const char kind = std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 's';
    at += sprintf(at, "%c%zu ", kind, sizeof(T));
}

struct Kernel {
    const char* name;
    void (*function)();
    void (*call)(void (*)(), void* const*);
    void (*signature)(char*);
};

template <typename... P, size_t... I> void unpack(void (*function)(), void* const* arguments, std::index_sequence<I...>) {
    reinterpret_cast<void (*)(P...)>(function)(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}
template <typename... P> Kernel kernel(const char* name, void (*function)(P...)) {
    return {name, reinterpret_cast<void (*)()>(function),
            [](void (*f)(), void* const* arguments) { unpack<P...>(f, arguments, std::index_sequence_for<P...>()); },
            [](char* at) { (describe<P>(at), ...); }};
}

inline const Kernel* running;
inline void* const* running_arguments;
inline bool running_overlaps;

inline void thread_body() {
    running->call(running->function, running_arguments);
    if (running_overlaps && !current->has_waited) fail("ends without having waited for the launch before");
    current->wait = ENDED, ++progress;
    to_scheduler();
    abort();
}

// The kernel touched what it must not: a page beyond its arrays, or one of the compiler's checks trapped.
inline void on_signal(int number, siginfo_t* info, void*) {
    if (number == SIGSEGV || number == SIGBUS) fail("access outside its arrays, at %p", info->si_addr);
    fail("index outside a static array, misaligned vector access, or undefined arithmetic");
}

// While one lives, a kernel's faults end its launch.
class Guard {
    static constexpr int SIGNALS[3] = {SIGSEGV, SIGBUS, SIGILL};
    struct sigaction before[3];

  public:
    Guard() {
        struct sigaction ours = {};
        ours.sa_sigaction = on_signal;
        ours.sa_flags = SA_SIGINFO | SA_NODEFER;  // on_signal leaves for the scheduler instead of returning
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &ours, &before[i]);
    }
    ~Guard() {
        for (int i = 0; i < 3; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    }
};

// Grid, block, bytes of dynamic shared memory, and whether it may begin before the launch ahead of it has ended.
struct Shape {
    dim3 grid, block;
    size_t shared;
    bool overlaps;
};

// A kernel with its arguments, from nothing done to all blocks ended.
class Launch {
    const Kernel& kernel;
    const Shape shape;
    const unsigned how;
    std::vector<std::vector<char>> values;
    std::vector<void*> arguments;
    uint64_t blocks, begun = 0;
    std::vector<Block> under_way;
    std::string fault;

    void enter(bool before_runs) {
        static char* const arena = [] {
            constexpr size_t PAGE = 4096, ROOM = (MAX_SHARED + PAGE - 1) / PAGE * PAGE;
            void* pages = mmap(nullptr, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (pages == MAP_FAILED || mprotect(static_cast<char*>(pages) + ROOM, PAGE, PROT_NONE)) abort();
            return static_cast<char*>(pages) + ROOM;
        }();
        grid_size = shape.grid, block_size = shape.block;
        thread_count = shape.block.x * shape.block.y * shape.block.z;
        dynamic_bytes = (shape.shared + 15) / 16 * 16;
        dynamic_shared = arena - dynamic_bytes;
        order = how, random_state = 88172645463325252ull + how + begun;
        arguments.clear();
        for (std::vector<char>& value : values) arguments.push_back(value.data());
        kernel_name = kernel.name, running = &kernel, running_arguments = arguments.data(), running_overlaps = shape.overlaps;
        launch_before_runs = before_runs, failed = false;
    }

    // The next block, as far as it can go.
    void begin_next() {
        // In random order: steps of a prime that does not divide their number.
        const uint64_t stride = how > BACKWARD && blocks % 7919 ? 7919 : 1;
        const uint64_t at = how == BACKWARD ? blocks - 1 - begun : begun * stride % blocks;
        ++begun;
        const dim3& grid = shape.grid;
        under_way.push_back(begin_block({unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y)}, thread_body));
        if (run(under_way.back())) end_block(under_way.back()), under_way.pop_back();
    }

    // Every block under way, once, as far as it can go.
    void go_on() {
        const uint64_t before = progress;
        std::vector<unsigned> turns(under_way.size());
        in_order(turns.data(), unsigned(turns.size()));
        std::vector<Block> left;
        for (const unsigned turn : turns) {
            if (!failed && run(under_way[turn])) end_block(under_way[turn]);
            else left.push_back(std::move(under_way[turn]));
        }
        under_way = std::move(left);
        if (failed || progress != before) return;
        block = under_way[0].index;
        current = std::find_if(under_way[0].threads, under_way[0].threads + thread_count, [](const Thread& thread) { return thread.wait == SPINS; });
        report("waits at %s:%d for other blocks, which never come; %llu of %llu have begun, and %u can be under way",
               current->place.file, current->place.line, static_cast<unsigned long long>(begun), static_cast<unsigned long long>(blocks), PROCESSORS);
    }

    void leave() {
        if (!failed) return;
        fault = message;
        give_up();
        begun = blocks;
    }

    void give_up() {
        for (Block& block : under_way) end_block(block);
        under_way.clear();
    }

  public:
    // Copies are made of launches that have not begun.
    Launch(const Launch&) = default;
    ~Launch() { give_up(); }
    Launch(const Kernel& kernel, const char* signature, const Shape& shape, unsigned how, void* const* from)
        : kernel(kernel), shape(shape), how(how), blocks(uint64_t(shape.grid.x) * shape.grid.y * shape.grid.z) {
        char expected[256] = "";
        kernel.signature(expected);
        const dim3 &grid = shape.grid, &block = shape.block;
        const uint64_t count = uint64_t(block.x) * block.y * block.z;
        char text[256] = "";
        if (strcmp(expected, signature) != 0) {
            snprintf(text, sizeof text, "%s takes %s, not %s", kernel.name, expected, signature);
        } else if (count == 0 || count > MAX_THREADS || block.z > 64 || shape.shared > MAX_SHARED || blocks == 0 ||
                   grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
            snprintf(text, sizeof text, "%s cannot be launched: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes shared",
                     kernel.name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shape.shared);
        }
        fault = text;
        if (!fault.empty()) {
            blocks = begun = 0;
            return;
        }
        for (const char* at = expected; *at; at = strchr(at, ' ') + 1) {
            const char* value = static_cast<const char*>(from[values.size()]);
            values.emplace_back(value, value + atoi(at + 1));
        }
    }

    bool overlaps() const { return shape.overlaps; }

    // What it does while the launch before still runs.
    void begin() {
        const Guard guard;
        enter(true);
        while (!failed && begun < blocks && under_way.size() < PROCESSORS) begin_next();
        leave();
    }

    // All the rest. What went wrong, or nothing.
    const std::string& finish() {
        const Guard guard;
        enter(false);
        while (!failed && (begun < blocks || !under_way.empty())) {
            if (begun < blocks && under_way.size() < PROCESSORS) begin_next();
            else go_on();
        }
        leave();
        return fault;
    }
};

// The launches of a device in their order. The last ones wait for others to overlap them, or for somebody who wants their
// results.
class Queue {
    // A launch that overlaps the one before can begin while the one before that still runs.
    static constexpr size_t DEPTH = 2;
    std::deque<std::unique_ptr<Launch>> waiting;

    std::string finish_until(size_t left) {
        while (waiting.size() > left) {
            const std::unique_ptr<Launch> ending = std::move(waiting.front());
            waiting.pop_front();
            const std::string& fault = ending->finish();
            // What follows builds on what is not there.
            if (!fault.empty()) return waiting.clear(), fault;
        }
        return {};
    }

  public:
    // What went wrong, or nothing; not always with this launch.
    std::string add(std::unique_ptr<Launch> next) {
        std::string fault;
        if (next->overlaps()) next->begin();
        else fault = finish();
        if (fault.empty()) waiting.push_back(std::move(next));
        return fault.empty() ? finish_until(DEPTH) : fault;
    }
    std::string finish() { return finish_until(0); }
};
inline Queue queue;

}  // namespace emu
