/* A team of threads for each calling thread, made at its first work that is worth one.
 *
 * Work comes as a phase: chains of calls, each cut into a share per thread and each share into a
 * few pieces.  Everybody works through the own share first (what it touched before is in its
 * cache) and then helps with the others'.  So a thread that comes late, because it slept or
 * because another process has its core, is not waited for: the others do its part, and it finds
 * nothing left.  Between phases a worker spins for some microseconds, in which the next phase or
 * the next training step comes, and then sleeps, so that it costs its neighbours nothing.
 *
 * OpenMP is not used: its region ends when every thread has arrived.  Measured with libgomp on
 * two cores, a 128x784x512 product of 0.4 ms (0.65 ms serially) took 7 ms beside a busy process
 * on one core and 36 ms in turn with NumPy's product, whose threads spin; see docs/threads.md.
 *
 * A forked child has none of its parent's workers; it makes a team of its own when it needs one.
 */
#define _POSIX_C_SOURCE 200112L /* posix_memalign, pthread_atfork */
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SERIAL_WORK 1e6 /* operations below which handing work over (about 1 us) cannot pay */
#define PHASE_WORK 5e4  /* the same for a phase, while the workers wait awake for it */
#define SMALL_WORK 2e7  /* operations up to which a step may be faster alone */
#define TRIAL_STEPS 8   /* steps together, then alone, that are timed */
#define TRIAL_PERIOD 1024
#define PIECES 4        /* a share's pieces: what a late thread leaves is shared out again */
#define PIECE_WORK 1e5  /* operations below which a piece is not worth claiming */
#define PIECE_BYTES (1 << 19) /* that a piece may write: a call's results should be in the L2 cache
                               * when the next of the chain reads them */
#define SPIN_TIME 20000 /* nanoseconds that a thread waits awake */
#define TURN_TIME 2000000 /* nanoseconds after which a worker lets others have its processor */

typedef struct {
    _Alignas(64) atomic_ptrdiff_t next; /* the first piece that nobody has claimed */
} share;

/* `state` is the generation of the phase (upper 32 bits), whether it is open to those who come
 * now, and how many workers are inside (lower 31).  A worker enters by counting itself in, which
 * fails once the caller has closed the phase; the caller goes on when all have left. */
#define OPEN ((uint64_t)1 << 31)
#define INSIDE (OPEN - 1)
#define GENERATION(state) ((uint32_t)((state) >> 32))

typedef struct team {
    /* on one cache line, what a waiting worker reads: 3 % of a step of 9 us */
    _Alignas(64) atomic_uint_fast64_t state;
    const fnn_chain *chain; /* the phase's */
    int chains, shares;
    atomic_int quit;
    _Alignas(64) atomic_int sleepers;
    int64_t idle_since; /* when the caller's last work ended */
    share share[FNN_MAX_THREADS];
    char *scratch;
    int scratch_threads;
    atomic_int workers; /* that have been started */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct worker {
        struct team *team;
        pthread_t thread;
        int me;
    } worker[FNN_MAX_THREADS];
} team;

/* operations below which waking workers (tens of microseconds) cannot pay */
static _Atomic double wake_work = 5e6;
static atomic_int process_threads = 1;
static atomic_int processors = 1;
static _Thread_local int own_threads;
static _Thread_local team *own_team;
static _Thread_local int own_team_forks; /* `forks` when own_team was made */
static atomic_int forks;                 /* how many forks lie between the first process and this */
static pthread_key_t team_key;           /* holds own_team, to be ended with its thread */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Kernels run with denormals and round to nearest, whatever other libraries have set: else the
 * bits would depend on who computes. */
#if defined(__x86_64__)
typedef unsigned arithmetic;
static arithmetic set_arithmetic(arithmetic mode) {
    arithmetic before = _mm_getcsr();
    if (before != mode) _mm_setcsr(mode);
    return before;
}
#define DEFAULT_ARITHMETIC 0x1f80u
#elif defined(__aarch64__)
typedef uint64_t arithmetic;
static arithmetic set_arithmetic(arithmetic mode) {
    arithmetic before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before != mode) __asm__ volatile("msr fpcr, %0" : : "r"(mode));
    return before;
}
#define DEFAULT_ARITHMETIC 0u
#else
typedef int arithmetic;
static arithmetic set_arithmetic(arithmetic mode) { return mode; }
#define DEFAULT_ARITHMETIC 0
#endif

static void run_chain(const fnn_chain *chain, ptrdiff_t begin, ptrdiff_t end, void *scratch) {
    for (const fnn_call *call = chain->calls; call < chain->calls + chain->count; call++)
        call->kernel(&call->arguments, begin * call->size, end * call->size, scratch);
}

/* How many units a piece of the chain has. */
static ptrdiff_t piece_units(const fnn_chain *chain, int shares) {
    ptrdiff_t least = (ptrdiff_t)(PIECE_WORK / chain->work * (double)chain->units) + 1;
    ptrdiff_t piece = chain->units / shares / PIECES + 1;
    if (chain->count > 1 && chain->bytes && piece > PIECE_BYTES / chain->bytes + 1)
        piece = PIECE_BYTES / chain->bytes + 1;
    if (least < chain->grain) least = chain->grain;
    return piece > least ? piece : least;
}

/* The given piece of a thread's share, counted through all chains; 0 if there is none. */
static int run_piece(team *t, int owner, ptrdiff_t number, void *scratch) {
    for (const fnn_chain *chain = t->chain; chain < t->chain + t->chains; chain++) {
        ptrdiff_t begin = chain->units * owner / t->shares;
        ptrdiff_t end = chain->units * (owner + 1) / t->shares;
        ptrdiff_t piece = piece_units(chain, t->shares), pieces = (end - begin + piece - 1) / piece;
        if (number < pieces) { /* of nearly equal size */
            ptrdiff_t units = end - begin;
            end = begin + units * (number + 1) / pieces;
            run_chain(chain, begin + units * number / pieces, end, scratch);
            return 1;
        }
        number -= pieces;
    }
    return 0;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

/* The own share first, then what the others have not begun; 0 if its turn ends before, as a
 * worker's does at `until`. */
static int work(team *t, int me, int64_t until) {
    void *scratch = t->scratch + (size_t)me * FNN_SCRATCH;
    for (int i = 0; i < t->shares; i++) {
        int owner = (me + i) % t->shares;
        while (run_piece(t, owner,
                         atomic_fetch_add_explicit(&t->share[owner].next, 1, memory_order_relaxed),
                         scratch))
            if (until && now() > until) return 0;
    }
    return 1;
}

/* Waiting awake pays only while every thread of the team can have a processor. */
static int64_t spin_until(const team *t) {
    return now() + (t->workers < processors ? SPIN_TIME : 0);
}

static int is_open(team *t, uint32_t done, uint64_t *state) {
    *state = atomic_load(&t->state);
    return (*state & OPEN && GENERATION(*state) != done) || atomic_load(&t->quit);
}

/* Until a phase is open that this worker has not been in, or the team ends. */
static uint64_t wait_for_phase(team *t, uint32_t done, int64_t *until) {
    uint64_t state;
    int64_t end = spin_until(t);
    do
        for (int i = 0; i < 16; i++) {
            if (is_open(t, done, &state)) return state;
            pause_briefly();
        }
    while (now() < end);
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleepers, 1);
    while (!is_open(t, done, &state)) pthread_cond_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
    *until = now() + TURN_TIME;
    return state;
}

/* A worker that shares its processor with another process would be stopped in the middle of a
 * piece, and the caller would wait for it.  So it gives way of its own accord, between two pieces,
 * before its time slice is over.  `until`: when its turn ends. */
static void *worker_main(void *argument) {
    struct worker *me = argument;
    team *t = me->team;
    uint32_t done = 0;
    int64_t until = now() + TURN_TIME;
    set_arithmetic(DEFAULT_ARITHMETIC);
    for (;;) {
        uint64_t state = wait_for_phase(t, done, &until);
        if (atomic_load(&t->quit)) return NULL;
        if (!atomic_compare_exchange_strong(&t->state, &state, state + 1)) continue;
        int finished = me->me >= t->shares || work(t, me->me, until);
        done = GENERATION(state) - !finished;
        atomic_fetch_sub_explicit(&t->state, 1, memory_order_release);
        if (now() > until) {
            sched_yield();
            until = now() + TURN_TIME;
        }
    }
}

static void wake_sleepers(team *t) {
    if (atomic_load(&t->sleepers) == 0) return;
    pthread_mutex_lock(&t->mutex);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->mutex);
}

/* At the end of the calling thread. */
static void end_team(void *argument) {
    team *t = argument;
    if (own_team_forks == forks) {
        atomic_store(&t->quit, 1);
        wake_sleepers(t);
        for (int i = 0; i < t->workers; i++) pthread_join(t->worker[i].thread, NULL);
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->mutex);
    }
    free(t->scratch);
    free(t);
    own_team = NULL;
}

static void in_forked_child(void) { forks++; }

static void prepare(void) {
    pthread_key_create(&team_key, end_team);
    pthread_atfork(NULL, NULL, in_forked_child);
    processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The calling thread's team, without workers at first; NULL if memory is short. */
static team *get_team(void) {
    pthread_once(&once, prepare);
    if (own_team && own_team_forks == forks) return own_team;
    void *memory; /* a parent's team is left alone: its locks may be held by threads long gone */
    if (posix_memalign(&memory, 64, sizeof(team))) return NULL;
    team *t = memory;
    *t = (team){.scratch = NULL};
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    if (pthread_setspecific(team_key, t)) {
        free(t);
        return NULL;
    }
    own_team_forks = forks;
    return own_team = t;
}

/* As many workers as can be had: with fewer, the others do their share.  They take no signals,
 * which are the program's own threads' affair. */
static void start_workers(team *t, int workers) {
    if (t->workers >= workers) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (t->workers < workers) {
        struct worker *w = &t->worker[t->workers];
        *w = (struct worker){.team = t, .me = t->workers + 1};
        if (pthread_create(&w->thread, NULL, worker_main, w)) break;
        t->workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void fnn_set_threads(int threads) { process_threads = threads; }

double fnn_set_wake_work(double operations) {
    return atomic_exchange(&wake_work, operations);
}

int fnn_override_threads(int threads) {
    int before = own_threads;
    own_threads = threads;
    return before;
}

int fnn_threads(void) { return own_threads ? own_threads : process_threads; }

/* Scratch for that many threads: 0, or -1 if memory is short. */
static int reserve(team *t, int threads) {
    if (t->scratch_threads >= threads) return 0;
    void *memory;
    if (posix_memalign(&memory, 64, (size_t)threads * FNN_SCRATCH)) return -1;
    free(t->scratch);
    t->scratch = memory;
    t->scratch_threads = threads;
    return 0;
}

/* How many threads that much work is worth now.  Little work gets some only where it comes at such
 * a pace that the workers stay awake between. */
static int threads_for(const team *t, double work) {
    int threads = fnn_threads(); /* read once: another thread may set it meanwhile */
    if (threads == 1 || work < SERIAL_WORK) return 1;
    return work >= wake_work || now() - t->idle_since < SPIN_TIME ? threads : 1;
}

static void run_together(team *t, const fnn_phase *phase, int threads) {
    start_workers(t, threads - 1);
    t->chain = phase->chain;
    t->chains = phase->chains;
    t->shares = threads;
    for (int i = 0; i < threads; i++)
        atomic_store_explicit(&t->share[i].next, 0, memory_order_relaxed);
    uint64_t open = ((uint64_t)(GENERATION(atomic_load(&t->state)) + 1) << 32) | OPEN;
    atomic_store(&t->state, open);
    wake_sleepers(t);
    work(t, 0, 0);
    atomic_fetch_and(&t->state, ~OPEN);
    int64_t end = 0;
    while (atomic_load_explicit(&t->state, memory_order_acquire) & INSIDE) {
        if (!end) end = spin_until(t);
        if (now() < end)
            pause_briefly();
        else
            sched_yield(); /* the one inside may be waiting for this core */
    }
}

static void run_phase(team *t, const fnn_phase *phase, int threads) {
    if (threads > 1 && phase->work >= PHASE_WORK) {
        run_together(t, phase, threads);
        return;
    }
    for (const fnn_chain *chain = phase->chain; chain < phase->chain + phase->chains; chain++) {
        ptrdiff_t piece = chain->count > 1 ? piece_units(chain, 1) : chain->units;
        for (ptrdiff_t begin = 0; begin < chain->units; begin += piece) {
            ptrdiff_t end = begin + piece < chain->units ? begin + piece : chain->units;
            run_chain(chain, begin, end, t->scratch);
        }
    }
}

int fnn_run(const fnn_call *call) {
    fnn_chain chain = {.calls = (fnn_call *)call, .count = 1, .units = call->units,
                       .grain = call->grain, .work = call->work};
    fnn_phase phase = {.chain = &chain, .chains = 1, .work = call->work};
    team *t = get_team();
    int threads = t && call->units > 1 ? threads_for(t, call->work) : 1;
    if (!t || reserve(t, threads)) return -1;
    arithmetic before = set_arithmetic(DEFAULT_ARITHMETIC);
    run_phase(t, &phase, threads);
    set_arithmetic(before);
    if (call->work >= SERIAL_WORK) t->idle_since = now();
    return 0;
}

static int met_fault(const fnn_program *p) { return p->fault && *p->fault != 0; }

/* One step of a program: 0, or 1 if it met a fault, after which nothing runs. */
static int replay_step(team *t, const fnn_program *p, int threads) {
    for (const fnn_phase *phase = p->phase; phase < p->phase + p->phases; phase++) {
        for (const fnn_call *call = phase->alone; call < phase->alone + phase->alones; call++) {
            if (met_fault(p)) return 1;
            call->kernel(&call->arguments, 0, call->size, t->scratch);
        }
        if (met_fault(p)) return 1;
        run_phase(t, phase, threads);
    }
    return met_fault(p);
}

/* Where processors are far from one another, handing over a small step costs more than it gains:
 * a step of 12 us alone and 9 us together took 21 when the system had moved one of two virtual
 * processors to another cache.  So small steps are tried both ways, again and again, and the
 * faster way is taken. */
static int replay_small_step(team *t, fnn_program *p, int threads) {
    const int trial = p->trial, together = trial < TRIAL_STEPS;
    p->trial = (trial + 1) % TRIAL_PERIOD;
    if (trial >= 2 * TRIAL_STEPS)
        return replay_step(t, p, p->together_time <= p->alone_time ? threads : 1);
    int64_t *time = together ? &p->together_time : &p->alone_time;
    int64_t start = now();
    int fault = replay_step(t, p, together ? threads : 1);
    if (trial % TRIAL_STEPS == 0)
        *time = 0; /* the first may have woken the workers */
    else
        *time += now() - start;
    return fault;
}

ptrdiff_t fnn_replay(fnn_program *p, ptrdiff_t steps) {
    team *t = get_team();
    int threads = t ? threads_for(t, p->work * (double)steps) : 1;
    if (!t || reserve(t, threads)) return -1;
    arithmetic before = set_arithmetic(DEFAULT_ARITHMETIC);
    ptrdiff_t done = 0;
    const int small = threads > 1 && p->work < SMALL_WORK;
    while (done < steps && !(small ? replay_small_step(t, p, threads) : replay_step(t, p, threads)))
        done++;
    set_arithmetic(before);
    t->idle_since = now();
    return done;
}
