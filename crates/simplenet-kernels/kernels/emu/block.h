// The scheduler of a block: its threads are fibres, switched in assembly.
#pragma once

#include <algorithm>
#include <vector>

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

// A block that has begun. While others run, what it had in shared memory is kept here.
struct Block {
    uint3 index;
    Thread* threads;
    std::vector<char> shared;
    int votes;
};

// Threads of blocks that have ended, with their stacks.
inline std::vector<Thread*> idle_threads;

inline void begin(Thread& thread, void (*body)()) {
    if (!thread.stack) {
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) abort();
        thread.stack = static_cast<char*>(stack);
    }
    // As if `body` had been called and had called emu_switch: six registers, then the return address.
    void** top = reinterpret_cast<void**>(thread.stack + STACK) - 2;
    top[0] = reinterpret_cast<void*>(body);
    top[1] = nullptr;
    thread.stack_pointer = top - 6;
    thread.wait = RUNS;
    thread.has_waited = false;
    if (thread.copies) thread.copies->count = thread.copies->groups = 0;
    if (thread.products) thread.products->count = thread.products->groups = 0;
}

// A block of the running launch, none of whose threads has done anything.
inline Block begin_block(uint3 index, void (*body)()) {
    if (idle_threads.empty()) idle_threads.push_back(new Thread[MAX_THREADS]());
    Block block{index, idle_threads.back(), {}, 0};
    idle_threads.pop_back();
    for (unsigned i = 0; i < thread_count; ++i) {
        block.threads[i].number = i;
        block.threads[i].index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
        begin(block.threads[i], body);
    }
    return block;
}
inline void end_block(Block& block) { idle_threads.push_back(block.threads); }

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

// What the block that runs can do by itself: all (true), or until some of its threads wait for another block or launch.
inline bool run_threads() {
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
            if (failed) return true;
        }
        if (moved) continue;
        // Every live thread waits: for what is outside, for the block, or for lanes that will not come.
        unsigned ended = 0;
        bool waits_outside = false;
        Thread* at_block = nullptr;
        Thread* at_warp = nullptr;
        for (unsigned i = 0; i < thread_count; ++i) {
            Thread& thread = threads[i];
            if (thread.wait == ENDED) ++ended;
            if (thread.wait == AT_LAUNCH || thread.wait == SPINS) waits_outside = true;
            if (thread.wait == AT_WARP && !at_warp) at_warp = &thread;
            if (thread.wait != AT_BLOCK) continue;
            if (!at_block || at_block->number / WARP != thread.number / WARP) at_block = &thread;
            if (at_block->place.line != thread.place.line || strcmp(at_block->place.file, thread.place.file)) {
                current = &thread;
                report("waits at the barrier of line %d, another lane of its warp at line %d", thread.place.line, at_block->place.line);
                return true;
            }
        }
        if (waits_outside) return false;
        if (ended == thread_count) return true;
        if (at_warp) {
            current = at_warp;
            report("waits at %s:%d for lanes of mask %08x that never come", at_warp->place.file, at_warp->place.line, at_warp->mask);
            return true;
        }
        if (ended) {
            current = at_block;
            report("waits at the barrier of %s:%d, which %u threads ended without", at_block->place.file, at_block->place.line, ended);
            return true;
        }
        block_votes = votes, votes = 0, ++progress;
        for (unsigned i = 0; i < thread_count; ++i) {
            if (threads[i].wait == AT_BLOCK) threads[i].wait = RUNS;
        }
    }
}

// Goes on with a block, or begins it; whether it has ended. The others have run since, so what it waits for may be there.
inline bool run(Block& of) {
    const size_t fixed = size_t(__stop_emu_shared - __start_emu_shared);
    block = of.index, threads = of.threads, votes = of.votes;
    if (of.shared.empty()) {
        memset(__start_emu_shared, 0xff, fixed);
        memset(dynamic_shared, 0xff, dynamic_bytes);
    } else {
        memcpy(__start_emu_shared, of.shared.data(), fixed);
        memcpy(dynamic_shared, of.shared.data() + fixed, dynamic_bytes);
    }
    for (unsigned i = 0; i < thread_count; ++i) {
        Thread& thread = threads[i];
        if (thread.wait == SPINS) thread.wait = RUNS;
        if (thread.wait == AT_LAUNCH && !launch_before_runs) thread.wait = RUNS, ++progress;
    }
    if (run_threads()) return ++progress, true;
    of.shared.assign(__start_emu_shared, __stop_emu_shared);
    of.shared.insert(of.shared.end(), dynamic_shared, dynamic_shared + dynamic_bytes);
    of.votes = votes;
    return false;
}

}  // namespace emu
