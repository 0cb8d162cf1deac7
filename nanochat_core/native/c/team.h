// A team of threads that goes through one job together: it shares out each phase, and waits between phases; either for all
// threads, or only for what they have taken.
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
    gate start;  // its number is a count of jobs, times 2 and 65536, plus ANY_MAY, plus the threads that the present one takes
    gate done;   // its number counts what was waited for
    atomic_long open;   // the number of a job that threads may still enter
    atomic_llong inside; // threads besides the caller's that have entered it
    atomic_int waiting; // at `done`, asleep or about to be
    void (*work)(void *context);
    void *context;
    int hired; // threads besides the caller's
    long hired_at[MAX_THREADS];
    pid_t process; // a forked one has none of the threads
} team_of_threads;

#define NEW_GATE {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}
#define NEW_TEAM {.middle = NEW_GATE, .start = NEW_GATE, .done = NEW_GATE}
#define ANY_MAY 65536
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

// Wait until `counter` is `wanted`, of a job of run_with_any: others may have lost their cores, which the core that waits can
// be given to.
static void await(atomic_llong *counter, long long wanted) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load(counter) == wanted) return;
        relax();
    }
    pthread_mutex_lock(&team.done.mutex);
    atomic_fetch_add(&team.waiting, 1);
    while (atomic_load(counter) != wanted) pthread_cond_wait(&team.done.changed, &team.done.mutex);
    atomic_fetch_sub(&team.waiting, 1);
    pthread_mutex_unlock(&team.done.mutex);
}

// Add to a counter that threads wait for.
static void add_done(atomic_llong *counter, long long more, long long wanted) {
    if (atomic_fetch_add(counter, more) + more != wanted || !atomic_load(&team.waiting)) return;
    pthread_mutex_lock(&team.done.mutex);
    pthread_cond_broadcast(&team.done.changed);
    pthread_mutex_unlock(&team.done.mutex);
}

static void *follow_jobs(void *argument) {
    int self = (int)(intptr_t)argument;
    long present = team.hired_at[self];
    for (;;) {
        wait_at(&team.start, present);
        present = atomic_load(&team.start.number);
        int threads = (int)(present & 0xffff);
        if (self >= threads) continue;
        if (present & ANY_MAY) {
            add_done(&team.inside, 1, 0); // before it is asked whether the job is still open: its caller asks the other way round
            if (atomic_load(&team.open) == present) team.work(team.context);
            add_done(&team.inside, -1, 0);
            continue;
        }
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

static long next_job(long kind, int threads) { return ((atomic_load(&team.start.number) >> 17) + 1) << 17 | kind | threads; }

// Make everything ready for a job on `threads` threads, as far as they can be had, which is `granted`; its number. 0: it was
// one thread's, and is done.
static long begin_job(int threads, void (*work)(void *), void *context, int *granted, long kind) {
    if (threads <= 1) {
        *granted = 1;
        work(context);
        return 0;
    }
    pthread_mutex_lock(&one_job_at_a_time);
    *granted = threads = hire(threads);
    team.work = work;
    team.context = context;
    return next_job(kind, threads);
}

// Call `work` on each of `threads` threads, and wait until all are done; `granted` is how many of them there are.
static void run_together(int threads, void (*work)(void *), void *context, int *granted) {
    long job = begin_job(threads, work, context, granted, 0);
    if (!job) return;
    set_gate(&team.start, job);
    work(context);
    meet(*granted);
    pthread_mutex_unlock(&one_job_at_a_time);
}

// Call `work` on the caller's thread and on those others, `threads` in all, that come while it lasts. Between its phases they
// wait only for what others have taken (add_done, await): one that has no core holds nobody up.
static void run_with_any(int threads, void (*work)(void *), void *context, int *granted) {
    long job = begin_job(threads, work, context, granted, ANY_MAY);
    if (!job) return;
    atomic_store(&team.open, job);
    set_gate(&team.start, job);
    work(context);
    atomic_store(&team.open, 0);
    await(&team.inside, 0);
    pthread_mutex_unlock(&one_job_at_a_time);
}

// The next piece of `size` that nobody has taken yet: where it begins, which is past the end when there is none.
static inline int64_t take(atomic_llong *taken, int64_t size) {
    return atomic_fetch_add_explicit(taken, size, memory_order_relaxed);
}

#endif
