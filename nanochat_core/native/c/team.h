// A team of threads that goes through one job together: it shares out each phase, and waits between phases.
#ifndef TEAM_H
#define TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define MAX_THREADS 256
#define SPINS 2000 // some 20 microseconds, by which threads of equal work differ; then asleep, so that others have the core

// Where threads wait for a number to change.
typedef struct {
    atomic_long number;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} gate;

typedef struct {
    atomic_int arrived;
    gate middle; // passed between phases
    gate start;  // its number is a count of jobs, times 65536, plus the threads that the present one takes
    void (*work)(void *context);
    void *context;
    int hired; // threads besides the caller's
    long hired_at[MAX_THREADS];
    pid_t process; // a forked one has none of the threads
} team_of_threads;

#define NEW_GATE {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}
#define NEW_TEAM {.middle = NEW_GATE, .start = NEW_GATE}
static team_of_threads team = NEW_TEAM;
static pthread_mutex_t one_job_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void set_gate(gate *gate, long number) {
    pthread_mutex_lock(&gate->mutex);
    atomic_store(&gate->number, number);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void wait_at(gate *gate, long number) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load(&gate->number) != number) return;
        relax();
    }
    pthread_mutex_lock(&gate->mutex);
    while (atomic_load(&gate->number) == number) pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

// Wait until every one of a job's `threads` is here.
static void meet(int threads) {
    if (threads == 1) return;
    long number = atomic_load(&team.middle.number);
    if (atomic_fetch_add(&team.arrived, 1) == threads - 1) {
        atomic_store(&team.arrived, 0);
        set_gate(&team.middle, number + 1);
    } else {
        wait_at(&team.middle, number);
    }
}

static void *follow_jobs(void *argument) {
    int self = (int)(intptr_t)argument;
    long present = team.hired_at[self];
    for (;;) {
        wait_at(&team.start, present);
        present = atomic_load(&team.start.number);
        int threads = (int)(present & 0xffff);
        if (self >= threads) continue;
        team.work(team.context);
        meet(threads);
    }
    return 0;
}

// How many threads there are for a job that wants `threads`, the caller's included.
static int hire(int threads) {
    if (team.process != getpid()) team = (team_of_threads)NEW_TEAM;
    team.process = getpid();
    while (team.hired + 1 < threads && team.hired + 1 < MAX_THREADS) {
        pthread_t thread;
        int self = team.hired + 1;
        team.hired_at[self] = atomic_load(&team.start.number);
        if (pthread_create(&thread, 0, follow_jobs, (void *)(intptr_t)self)) break;
        pthread_detach(thread);
        team.hired++;
    }
    return threads < team.hired + 1 ? threads : team.hired + 1;
}

// Call `work` on each of `threads` threads, and wait until all are done; `granted` is how many of them there are.
static void run_together(int threads, void (*work)(void *), void *context, int *granted) {
    if (threads <= 1) {
        *granted = 1;
        work(context);
        return;
    }
    pthread_mutex_lock(&one_job_at_a_time);
    *granted = threads = hire(threads);
    team.work = work;
    team.context = context;
    set_gate(&team.start, ((atomic_load(&team.start.number) >> 16) + 1) << 16 | threads);
    work(context);
    meet(threads);
    pthread_mutex_unlock(&one_job_at_a_time);
}

// The next piece of `size` that nobody has taken yet: where it begins, which is past the end when there is none.
static inline int64_t take(atomic_llong *taken, int64_t size) {
    return atomic_fetch_add_explicit(taken, size, memory_order_relaxed);
}

#endif
