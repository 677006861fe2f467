/* Each calling thread has a team: itself and workers, which start with the first work that is worth
 * them.
 *
 * Work comes as a phase: chains of calls.  The units of a chain are cut into one share for each
 * thread, and each share into a few pieces.  A thread first runs the pieces of its share, since
 * what it touched before is in its cache, and then helps with the pieces of the others.  So nobody
 * waits for a thread that comes late, because it slept or another process has its core: the others
 * run its pieces, and it finds none left.
 *
 * Between phases a worker spins for some microseconds, since the next phase or training step comes
 * soon.  While a program runs it waits awake for longer, but yields its processor to whoever wants
 * it.  Then it sleeps, so that it costs other processes nothing.
 *
 * OpenMP is not used, because its region ends when every thread has arrived.  With libgomp on two
 * cores, a 128x784x512 product of 0.4 ms (0.65 ms serially) took 7 ms beside a busy process on one
 * core, and 36 ms in turn with NumPy's product, whose threads spin; see docs/threads.md.
 *
 * A forked child has none of its parent's workers and makes a new team when it needs one. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign, pthread_atfork */
#define _DARWIN_C_SOURCE        /* _SC_NPROCESSORS_ONLN on macOS */
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

/* in operations: */
#define SERIAL_WORK 1e6 /* below this, handing work over (about 1 us) cannot pay */
#define PHASE_WORK 5e4  /* the same for a phase, for which the workers wait awake */
#define SMALL_WORK 2e7  /* up to this, a step may be faster alone */
#define PIECE_WORK 1e5  /* below this, a piece is not worth claiming */
static _Atomic double wake_work = 5e6; /* below this, waking workers (tens of us) cannot pay */

/* in nanoseconds: */
#define SPIN_TIME 20000   /* a thread waits awake for so long, */
#define LONG_SPIN 200000  /* and a worker, yielding, while a program or a call runs */
#define TURN_TIME 2000000 /* after this a worker lets others have its processor */

#define PIECES 4              /* pieces of a share: what a late thread leaves can be divided */
#define PIECE_BYTES (1 << 19) /* bytes that a piece may write: a call's results should be in L2
                               * when the next call of the chain reads them */
#define TRIAL_STEPS 8         /* steps that are timed with the team, then as many alone */
#define TRIAL_PERIOD 1024     /* steps from one trial to the next */

typedef struct {
    _Alignas(64) atomic_ptrdiff_t next; /* the first piece that nobody has claimed */
} share;

/* `state` is twice the number of the phase, plus 1 while workers may enter the phase.  A worker
 * sets its `inside` and then looks whether the phase is open; the caller closes the phase, then
 * looks who is inside, and goes on when all have left.  (Every `inside` is on a cache line of its
 * own: sixteen workers that counted themselves in on one line took 10 us.) */
#define OPEN ((uint64_t)1)

typedef struct team {
    /* what a waiting worker reads is on one cache line: 3 % of a step of 9 us */
    _Alignas(64) atomic_uint_fast64_t state;
    const fnn_chain *chain; /* the phase's */
    int chains, shares;
    atomic_int running; /* whether a call or a program runs */
    _Alignas(64) atomic_int sleepers;
    int64_t idle_since; /* when the caller's last work ended */
    share share[FNN_MAX_THREADS];
    char *scratch;
    int scratch_threads;
    atomic_int workers; /* how many were started: for the last phase, or fewer */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct worker {
        _Alignas(64) atomic_int inside;
        atomic_int quit;
        struct team *team;
        pthread_t thread;
        int me;
    } worker[FNN_MAX_THREADS];
} team;

static atomic_int process_threads = 1;
static atomic_int processors = 1;
static _Thread_local int thread_override;   /* for the calling thread; 0: process_threads */
static _Thread_local team *caller_team;     /* of the calling thread */
static _Thread_local int caller_team_forks; /* `forks` when it was made */
static atomic_int forks;       /* how many forks lie between the first process and this one */
static pthread_key_t team_key; /* holds caller_team, which ends with its thread */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Kernels run with denormals and rounding to nearest, whatever other libraries have set, so that
 * bits do not depend on the thread. */
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

/* How many units a piece of the chain should have. */
static ptrdiff_t piece_units(const fnn_chain *chain, int shares) {
    ptrdiff_t least = (ptrdiff_t)(PIECE_WORK / chain->work * (double)chain->units) + 1;
    ptrdiff_t piece = chain->units / shares / PIECES + 1;
    if (chain->count > 1 && chain->bytes && piece > PIECE_BYTES / chain->bytes + 1)
        piece = PIECE_BYTES / chain->bytes + 1;
    if (least < chain->grain) least = chain->grain;
    return piece > least ? piece : least;
}

static ptrdiff_t share_begin(const team *t, const fnn_chain *chain, int owner) {
    return chain->units * owner / t->shares;
}

/* How many pieces of the chain are in a thread's share. */
static ptrdiff_t chain_pieces(const team *t, const fnn_chain *chain, int owner) {
    ptrdiff_t piece = piece_units(chain, t->shares);
    return (share_begin(t, chain, owner + 1) - share_begin(t, chain, owner) + piece - 1) / piece;
}

static ptrdiff_t share_pieces(const team *t, int owner) {
    ptrdiff_t pieces = 0;
    for (const fnn_chain *chain = t->chain; chain < t->chain + t->chains; chain++)
        pieces += chain_pieces(t, chain, owner);
    return pieces;
}

/* Runs a piece of a thread's share, by its number among those of all chains.  A chain's pieces have
 * nearly equal sizes. */
static void run_piece(const team *t, int owner, ptrdiff_t number, void *scratch) {
    const fnn_chain *chain = t->chain;
    ptrdiff_t pieces;
    for (; number >= (pieces = chain_pieces(t, chain, owner)); chain++) number -= pieces;
    ptrdiff_t begin = share_begin(t, chain, owner);
    ptrdiff_t units = share_begin(t, chain, owner + 1) - begin;
    run_chain(chain, begin + units * number / pieces, begin + units * (number + 1) / pieces,
              scratch);
}

/* Claims the next piece of a share; returns `pieces` if none is left.  Looking first spares the
 * cache line, since all threads come by every share. */
static ptrdiff_t claim(share *s, ptrdiff_t pieces) {
    if (atomic_load_explicit(&s->next, memory_order_relaxed) >= pieces) return pieces;
    return atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

/* Runs the pieces of thread `me`'s share, then those that the other threads have not begun.  A
 * worker's turn ends at `until` (0: never); returns whether all was done before. */
static int work(team *t, int me, int64_t until) {
    void *scratch = t->scratch + (size_t)me * FNN_SCRATCH;
    for (int i = 0; i < t->shares; i++) {
        const int owner = (me + i) % t->shares;
        const ptrdiff_t pieces = share_pieces(t, owner);
        for (ptrdiff_t n; (n = claim(&t->share[owner], pieces)) < pieces;) {
            run_piece(t, owner, n, scratch);
            if (until && now() > until) return 0;
        }
    }
    return 1;
}

/* Waiting awake pays only while every thread of the team can have a processor. */
static int64_t spin_time(const team *t) { return t->workers < processors ? SPIN_TIME : 0; }

/* Whether a phase other than `done` is open, or the worker must end. */
static int is_open(const struct worker *me, uint64_t done) {
    uint64_t state = atomic_load(&me->team->state);
    return (state & OPEN && state != done) || atomic_load(&me->quit);
}

/* Waits until is_open.  After sleep a new turn begins, which ends at *until. */
static void wait_for_phase(struct worker *me, uint64_t done, int64_t *until) {
    team *t = me->team;
    const int64_t begun = now(), spin = spin_time(t);
    for (int64_t waited = 0;; waited = now() - begun) {
        if (waited >= spin) {
            if (!spin || waited >= LONG_SPIN || !atomic_load(&t->running)) break;
            sched_yield(); /* without it, two trainings on two cores take a fourth longer */
        }
        for (int i = 0; i < 16; i++) {
            if (is_open(me, done)) return;
            pause_briefly();
        }
    }
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleepers, 1);
    while (!is_open(me, done)) pthread_cond_wait(&t->wake, &t->mutex);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
    *until = now() + TURN_TIME;
}

/* Works on the open phase, if there is one other than `done`.  Returns the state of the last phase
 * of which nothing is left to claim. */
static uint64_t enter_phase(struct worker *me, uint64_t done, int64_t until) {
    atomic_store(&me->inside, 1);
    const uint64_t state = atomic_load(&me->team->state);
    if (state & OPEN && state != done && work(me->team, me->me, until)) done = state;
    atomic_store_explicit(&me->inside, 0, memory_order_release);
    return done;
}

/* If a worker and another process want one processor, the system would stop the worker in the
 * middle of a piece, and the caller would wait.  So the worker yields between two pieces, at the
 * end of its turn (`until`), before its time slice is over. */
static void *worker_main(void *argument) {
    struct worker *me = argument;
    uint64_t done = 0;
    int64_t until = now() + TURN_TIME;
    set_arithmetic(DEFAULT_ARITHMETIC);
    for (;;) {
        wait_for_phase(me, done, &until);
        if (atomic_load(&me->quit)) return NULL;
        done = enter_phase(me, done, until);
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

/* Ends all workers but the first `workers`, between phases. */
static void stop_workers(team *t, int workers) {
    for (int i = workers; i < t->workers; i++) atomic_store(&t->worker[i].quit, 1);
    wake_sleepers(t);
    for (int i = workers; i < t->workers; i++) pthread_join(t->worker[i].thread, NULL);
    t->workers = workers;
}

/* Runs at the end of the calling thread. */
static void end_team(void *argument) {
    team *t = argument;
    if (caller_team_forks == forks) {
        stop_workers(t, 0);
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->mutex);
    }
    free(t->scratch);
    free(t);
    caller_team = NULL;
}

static void in_forked_child(void) { forks++; }

static void set_up(void) {
    pthread_key_create(&team_key, end_team);
    pthread_atfork(NULL, NULL, in_forked_child);
    processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The calling thread's team, without workers at first; NULL if memory is short. */
static team *get_team(void) {
    pthread_once(&once, set_up);
    if (caller_team && caller_team_forks == forks) return caller_team;
    void *memory; /* a parent's team is not freed: its locks may be held by threads that are gone */
    if (posix_memalign(&memory, 64, sizeof(team))) return NULL;
    team *t = memory;
    *t = (team){.scratch = NULL};
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    if (pthread_setspecific(team_key, t)) {
        free(t);
        return NULL;
    }
    caller_team_forks = forks;
    return caller_team = t;
}

/* Starts workers until there are so many, or as many as the system allows: the others run the
 * shares of those that are missing.  Workers block all signals, which are for the program's
 * threads. */
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
    int before = thread_override;
    thread_override = threads;
    return before;
}

int fnn_threads(void) { return thread_override ? thread_override : process_threads; }

/* Gets scratch for so many threads.  Returns 0, or -1 if memory is short. */
static int reserve(team *t, int threads) {
    if (t->scratch_threads >= threads) return 0;
    void *memory;
    if (posix_memalign(&memory, 64, (size_t)threads * FNN_SCRATCH)) return -1;
    free(t->scratch);
    t->scratch = memory;
    t->scratch_threads = threads;
    return 0;
}

/* How many threads so much work is worth.  Little work is worth several only if it follows other
 * work so soon that the workers are awake. */
static int threads_for(const team *t, double work) {
    int threads = fnn_threads(); /* read once: another thread may set it meanwhile */
    if (threads == 1 || work < SERIAL_WORK) return 1;
    return work >= wake_work || now() - t->idle_since < SPIN_TIME ? threads : 1;
}

static void run_together(team *t, const fnn_phase *phase, int threads) {
    if (t->workers >= threads) stop_workers(t, threads - 1);
    start_workers(t, threads - 1);
    t->chain = phase->chain;
    t->chains = phase->chains;
    t->shares = threads;
    for (int i = 0; i < threads; i++)
        atomic_store_explicit(&t->share[i].next, 0, memory_order_relaxed);
    const uint64_t open = atomic_load(&t->state) + 1;
    atomic_store(&t->state, open);
    wake_sleepers(t);
    work(t, 0, 0);
    atomic_store(&t->state, open + 1);
    int64_t end = 0;
    for (int i = 0; i < t->workers; i++)
        while (atomic_load(&t->worker[i].inside)) { /* after the phase was closed */
            if (!end) end = now() + spin_time(t);
            if (now() < end)
                pause_briefly();
            else
                sched_yield(); /* the worker may be waiting for this core */
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
    atomic_store_explicit(&t->running, 1, memory_order_relaxed);
    run_phase(t, &phase, threads);
    atomic_store_explicit(&t->running, 0, memory_order_relaxed);
    set_arithmetic(before);
    if (call->work >= SERIAL_WORK) t->idle_since = now();
    return 0;
}

static int met_fault(const fnn_program *p) { return p->fault && *p->fault != 0; }

/* Runs one step of a program.  Returns 0, or 1 if it met a fault, after which nothing more runs. */
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

/* Runs a small step with the team or alone, whichever was faster in the last trial.  If processors
 * are far from one another, the team costs more than it gains: a step of 12 us alone and 9 us
 * together took 21 us when the system had moved one of two virtual processors to another cache.
 * That may change at any time, so trials are repeated. */
static int replay_small_step(team *t, fnn_program *p, int threads) {
    const int trial = p->trial, together = trial < TRIAL_STEPS;
    p->trial = (trial + 1) % TRIAL_PERIOD;
    if (trial >= 2 * TRIAL_STEPS)
        return replay_step(t, p, p->together_time <= p->alone_time ? threads : 1);
    int64_t *time = together ? &p->together_time : &p->alone_time;
    int64_t start = now();
    int fault = replay_step(t, p, together ? threads : 1);
    if (trial % TRIAL_STEPS == 0)
        *time = 0; /* the first step may have woken the workers */
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
    atomic_store_explicit(&t->running, 1, memory_order_relaxed);
    const int small = threads > 1 && p->work < SMALL_WORK;
    while (done < steps && !(small ? replay_small_step(t, p, threads) : replay_step(t, p, threads)))
        done++;
    atomic_store_explicit(&t->running, 0, memory_order_relaxed);
    set_arithmetic(before);
    t->idle_since = now();
    return done;
}
