// The emulator's scheduler, and kernels called with an array of arguments as the CUDA driver calls them.
#pragma once

#include "cuda_emu.h"

asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp,(%rdi)
    movq %rsi,%rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

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

inline void thread_body() {
    running->call(running->function, running_arguments);
    if (overlaps && !current->waited) fail("ends without having waited for the launch before");
    current->wait = ENDED;
    to_scheduler();
    abort();
}

// The kernel touched what it must not: a page beyond its arrays, or one of the compiler's checks trapped.
inline void on_signal(int number, siginfo_t* info, void*) {
    if (number == SIGSEGV || number == SIGBUS) fail("access outside its arrays, at %p", info->si_addr);
    fail("index outside a static array, misaligned vector access, or undefined arithmetic");
}

inline void begin(Thread& thread) {
    if (!thread.stack) {
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) abort();
        thread.stack = static_cast<char*>(stack);
    }
    // As if `thread_body` had been called and had called emu_switch: six registers, then the return address.
    void** top = reinterpret_cast<void**>(thread.stack + STACK) - 2;
    top[0] = reinterpret_cast<void*>(thread_body);
    top[1] = nullptr;
    thread.stack_pointer = top - 6;
    thread.wait = RUNS;
    thread.waited = false;
    if (thread.copies) thread.copies->count = thread.copies->groups = 0;
    if (thread.products) thread.products->count = thread.products->groups = 0;
}

inline void in_order(unsigned* list, unsigned count) {
    for (unsigned i = 0; i < count; ++i) list[i] = order == BACKWARD ? count - 1 - i : i;
    if (order <= BACKWARD) return;
    for (unsigned i = count; i > 1; --i) std::swap(list[i - 1], list[random_below(i)]);
}

// Runs the lanes of one warp that can run, then the collectives whose lanes have all arrived. False if nothing moved.
inline bool step(unsigned warp) {
    const unsigned first = warp * WARP, count = thread_count - first < WARP ? thread_count - first : WARP;
    unsigned lanes[WARP];
    bool moved = false;
    in_order(lanes, count);
    for (unsigned i = 0; i < count; ++i) {
        Thread& thread = threads[first + lanes[i]];
        if (thread.wait != RUNS) continue;
        current = &thread;
        emu_switch(&scheduler, thread.stack_pointer);
        if (failed) return false;
        moved = true;
    }
    unsigned live = 0;
    for (unsigned lane = 0; lane < count; ++lane) live |= unsigned(threads[first + lane].wait != ENDED) << lane;
    for (unsigned lane = 0; lane < count; ++lane) {
        Thread& leader = threads[first + lane];
        if (leader.wait != AT_WARP) continue;
        const unsigned group = leader.mask & live;
        void* operands[WARP];
        bool all = true;
        for (unsigned other = 0; other < count && all; ++other) {
            if (!(group >> other & 1)) continue;
            const Thread& member = threads[first + other];
            all = member.wait == AT_WARP && member.meaning == leader.meaning && member.mask == leader.mask;
            operands[other] = member.operands;
        }
        if (!all) continue;
        current = &leader;
        leader.meaning(operands, group);
        if (failed) return false;
        for (unsigned other = 0; other < count; ++other) {
            if (group >> other & 1) threads[first + other].wait = RUNS;
        }
        moved = true;
    }
    return moved;
}

inline void run_block() {
    memset(__start_emu_shared, 0xff, size_t(__stop_emu_shared - __start_emu_shared));
    memset(dynamic_shared, 0xff, dynamic_bytes);
    for (unsigned i = 0; i < thread_count; ++i) begin(threads[i]);
    const unsigned warps = (thread_count + WARP - 1) / WARP;
    unsigned turns[MAX_THREADS / WARP];
    for (;;) {
        bool moved = false;
        in_order(turns, warps);
        for (unsigned i = 0; i < warps; ++i) {
            while (step(turns[i])) {
                moved = true;
                if (order > BACKWARD && random_below(2)) break;
            }
            if (failed) return;
        }
        if (moved) continue;
        // Every live thread waits: for the block, or for lanes that will not come.
        unsigned ended = 0;
        Thread* at_block = nullptr;
        Thread* at_warp = nullptr;
        for (unsigned i = 0; i < thread_count; ++i) {
            Thread& thread = threads[i];
            if (thread.wait == ENDED) ++ended;
            if (thread.wait == AT_WARP && !at_warp) at_warp = &thread;
            if (thread.wait != AT_BLOCK) continue;
            if (!at_block || at_block->number / WARP != thread.number / WARP) at_block = &thread;
            if (at_block->place.line != thread.place.line || strcmp(at_block->place.file, thread.place.file)) {
                current = &thread;
                return report("waits at the barrier of line %d, another lane of its warp at line %d", thread.place.line, at_block->place.line);
            }
        }
        if (ended == thread_count) return;
        if (at_warp) {
            current = at_warp;
            return report("waits at %s:%d for lanes of mask %08x that never come", at_warp->place.file, at_warp->place.line, at_warp->mask);
        }
        if (ended) {
            current = at_block;
            return report("waits at the barrier of %s:%d, which %u threads ended without", at_block->place.file, at_block->place.line, ended);
        }
        block_votes = votes, votes = 0;
        for (unsigned i = 0; i < thread_count; ++i) {
            if (threads[i].wait == AT_BLOCK) threads[i].wait = RUNS;
        }
    }
}

// Null, or what is wrong with the launch or went wrong in it.
inline const char* launch(const Kernel& kernel, const char* signature, const unsigned* grid, const unsigned* threads_of_block,
                          size_t shared, unsigned how, void* const* arguments) {
    char expected[256] = "";
    kernel.signature(expected);
    if (strcmp(expected, signature) != 0) {
        snprintf(message, sizeof message, "%s takes %s, not %s", kernel.name, expected, signature);
        return message;
    }
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads_of_block[0], threads_of_block[1], threads_of_block[2]};
    const uint64_t count = uint64_t(block_size.x) * block_size.y * block_size.z;
    if (count == 0 || count > MAX_THREADS || block_size.z > 64 || shared > MAX_SHARED || grid_size.x == 0 || grid_size.y == 0 ||
        grid_size.z == 0 || grid_size.x > 0x7fffffff || grid_size.y > 65535 || grid_size.z > 65535) {
        snprintf(message, sizeof message, "%s cannot be launched: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes shared", kernel.name,
                 grid_size.x, grid_size.y, grid_size.z, block_size.x, block_size.y, block_size.z, shared);
        return message;
    }
    constexpr size_t PAGE = 4096;
    static char* const arena = [] {
        constexpr size_t ROOM = (MAX_SHARED + PAGE - 1) / PAGE * PAGE;
        void* pages = mmap(nullptr, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED || mprotect(static_cast<char*>(pages) + ROOM, PAGE, PROT_NONE)) abort();
        return static_cast<char*>(pages) + ROOM;
    }();
    dynamic_bytes = (shared + 15) / 16 * 16;
    dynamic_shared = arena - dynamic_bytes;
    thread_count = unsigned(count), order = how, random_state = 88172645463325252ull + how;
    kernel_name = kernel.name, running = &kernel, running_arguments = arguments, failed = false, votes = 0;
    for (unsigned i = 0; i < thread_count; ++i) {
        threads[i].number = i;
        threads[i].index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
    }
    struct sigaction ours = {}, before[3];
    const int signals[3] = {SIGSEGV, SIGBUS, SIGILL};
    ours.sa_sigaction = on_signal;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;  // on_signal leaves for the scheduler instead of returning
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &ours, &before[i]);
    const uint64_t blocks = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    uint64_t stride = 1;  // blocks in random order: steps of a prime that does not divide their number
    if (order > BACKWARD && blocks % 7919) stride = 7919;
    for (uint64_t i = 0; i < blocks && !failed; ++i) {
        const uint64_t at = order == BACKWARD ? blocks - 1 - i : i * stride % blocks;
        block = {unsigned(at % grid_size.x), unsigned(at / grid_size.x % grid_size.y), unsigned(at / grid_size.x / grid_size.y)};
        run_block();
    }
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    return failed ? message : nullptr;
}

}  // namespace emu
