/* Each calling thread has a team: itself, the leader, and followers, which there are from the first
 * work on that is worth them.
 *
 * Work comes as a phase: chains of calls.  The units of a chain are cut into one share for each
 * thread, and each share into a few pieces.  A thread first runs the pieces of its share, since
 * what it touched before is in its cache, and then helps with the pieces of the others.  So nobody
 * waits for a thread that comes late, because it slept or another process has its core: the others
 * run its pieces, and it finds none left.
 *
 * Between phases a follower spins for some microseconds, since the next phase or training step comes
 * soon.  While a program runs it waits awake for longer, but yields its processor to whoever wants
 * it.  Then it sleeps, so that it costs other processes nothing.
 *
 * Where the followers' threads come from is a runtime's (runtime.h): they are the library's own
 * workers or OpenMP's threads, and run the same code. */
#define _POSIX_C_SOURCE 200112L /* for system.h */
#define _DARWIN_C_SOURCE        /* _SC_NPROCESSORS_ONLN on macOS */
#include "team.h"

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
#define LONG_SPIN 200000  /* and a follower, yielding, while a program or a call runs */
#define TURN_TIME 2000000 /* after this a follower lets others have its processor */

#define PIECES 4              /* pieces of a share: what a late thread leaves can be divided */
#define PIECE_BYTES (1 << 19) /* bytes that a piece may write: a call's results should be in L2
                               * when the next call of the chain reads them */
#define TRIAL_STEPS 8         /* steps that are timed with the team, then as many alone */
#define TRIAL_PERIOD 1024     /* steps from one trial to the next */

/* A team's `state` is twice the number of the phase, plus 1 while followers may enter the phase.  A
 * follower sets its `inside` and then looks whether the phase is open; the leader closes the phase,
 * then looks who is inside, and goes on when all have left.  (Every `inside` is on a cache line of
 * its own: sixteen threads that counted themselves in on one line took 10 us.) */
#define OPEN ((uint64_t)1)

static atomic_int process_threads = 1;
static _Thread_local int thread_override; /* for the calling thread; 0: process_threads */
static const fnn_runtime *_Atomic process_runtime = &fnn_own_runtime;
static _Thread_local const fnn_runtime *runtime_override; /* NULL: process_runtime */

static atomic_int processors = 1;
static _Thread_local fnn_team *caller_team; /* of the calling thread */
static _Thread_local int caller_team_forks; /* `forks` when it was made */
static atomic_int forks;       /* how many forks lie between the first process and this one */
static fnn_thread_key team_key; /* holds caller_team, which ends with its thread */

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

static ptrdiff_t share_begin(const fnn_team *t, const fnn_chain *chain, int owner) {
    return chain->units * owner / t->shares;
}

/* How many pieces of the chain are in a thread's share. */
static ptrdiff_t chain_pieces(const fnn_team *t, const fnn_chain *chain, int owner) {
    ptrdiff_t piece = piece_units(chain, t->shares);
    return (share_begin(t, chain, owner + 1) - share_begin(t, chain, owner) + piece - 1) / piece;
}

static ptrdiff_t share_pieces(const fnn_team *t, int owner) {
    ptrdiff_t pieces = 0;
    for (const fnn_chain *chain = t->chain; chain < t->chain + t->chains; chain++)
        pieces += chain_pieces(t, chain, owner);
    return pieces;
}

/* Runs a piece of a thread's share, by its number among those of all chains.  A chain's pieces have
 * nearly equal sizes. */
static void run_piece(const fnn_team *t, int owner, ptrdiff_t number, void *scratch) {
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
static ptrdiff_t claim(fnn_share *s, ptrdiff_t pieces) {
    if (atomic_load_explicit(&s->next, memory_order_relaxed) >= pieces) return pieces;
    return atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed);
}

int64_t fnn_now(void) {
    return fnn_nanoseconds();
}

/* Runs the pieces of thread `me`'s share, then those that the other threads have not begun.  A
 * follower's turn ends at `until` (0: never); returns whether all was done before. */
static int work(fnn_team *t, int me, int64_t until) {
    void *scratch = t->scratch + (size_t)me * FNN_SCRATCH;
    for (int i = 0; i < t->shares; i++) {
        const int owner = (me + i) % t->shares;
        const ptrdiff_t pieces = share_pieces(t, owner);
        for (ptrdiff_t n; (n = claim(&t->share[owner], pieces)) < pieces;) {
            run_piece(t, owner, n, scratch);
            if (until && fnn_now() > until) return 0;
        }
    }
    return 1;
}

/* Waiting awake pays only while every thread of the team can have a processor. */
static int64_t spin_time(const fnn_team *t) {
    if (t->runtime->patience >= 0) return t->runtime->patience;
    return t->members <= processors ? SPIN_TIME : 0;
}

static int must_leave(const fnn_team *t, int me) { return me >= atomic_load(&t->members); }

/* Whether a phase other than `done` is open, or the follower must leave. */
static int is_called(const fnn_team *t, int me, uint64_t done) {
    uint64_t state = atomic_load(&t->state);
    return (state & OPEN && state != done) || must_leave(t, me);
}

/* Waits until is_called.  After sleep a new turn begins, which ends at *until. */
static void wait_for_phase(fnn_team *t, int me, uint64_t done, int64_t *until) {
    const int64_t begun = fnn_now(), spin = spin_time(t);
    for (int64_t waited = 0;; waited = fnn_now() - begun) {
        if (waited >= spin) {
            if (!spin || waited >= LONG_SPIN || !atomic_load(&t->running)) break;
            fnn_yield(); /* without it, two trainings on two cores take a fourth longer */
        }
        for (int i = 0; i < 16; i++) {
            if (is_called(t, me, done)) return;
            pause_briefly();
        }
    }
    fnn_take(&t->lock);
    atomic_fetch_add(&t->sleepers, 1);
    while (!is_called(t, me, done)) fnn_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->sleepers, 1);
    fnn_give(&t->lock);
    *until = fnn_now() + TURN_TIME;
}

/* Works on the open phase, if there is one other than `done`.  Returns the state of the last phase
 * of which nothing is left to claim. */
static uint64_t enter_phase(fnn_team *t, int me, uint64_t done, int64_t until) {
    atomic_store(&t->member[me].inside, 1);
    const uint64_t state = atomic_load(&t->state);
    if (state & OPEN && state != done && work(t, me, until)) done = state;
    atomic_store_explicit(&t->member[me].inside, 0, memory_order_release);
    return done;
}

/* If a follower and another process want one processor, the system would stop the follower in the
 * middle of a piece, and the leader would wait.  So the follower yields between two pieces, at the
 * end of its turn (`until`), before its time slice is over. */
static void follow(fnn_team *t, int me) {
    uint64_t done = 0;
    int64_t until = fnn_now() + TURN_TIME;
    const arithmetic before = set_arithmetic(DEFAULT_ARITHMETIC);
    for (;;) {
        wait_for_phase(t, me, done, &until);
        if (must_leave(t, me)) break;
        done = enter_phase(t, me, done, until);
        if (fnn_now() > until) {
            fnn_yield();
            until = fnn_now() + TURN_TIME;
        }
    }
    set_arithmetic(before);
}

void fnn_wake_sleepers(fnn_team *t) {
    if (atomic_load(&t->sleepers) == 0) return;
    fnn_take(&t->lock);
    fnn_wake_all(&t->wake);
    fnn_give(&t->lock);
}

/* Ends the team's threads where its runtime keeps them. */
static void release(fnn_team *t) {
    atomic_store(&t->members, 1);
    if (t->runtime->release) t->runtime->release(t);
}

/* Runs at the end of the calling thread. */
FNN_THREAD_END(end_team, argument) {
    fnn_team *t = argument;
    if (caller_team_forks == forks) {
        release(t);
        fnn_end_lock(&t->lock, &t->wake);
    }
    fnn_free(t->scratch);
    fnn_free(t);
    caller_team = NULL;
}

static void in_forked_child(void) { forks++; }

void fnn_set_up_threads(void) {
    fnn_make_key(&team_key, end_team);
    fnn_at_fork(in_forked_child);
    processors = fnn_processors();
    fnn_set_up_callers();
}

int fnn_is_forked(void) { return forks > 0; }

/* The calling thread's team, without followers at first; NULL if memory is short.  A forked child
 * has none of its parent's threads, and makes a new one. */
static fnn_team *get_team(void) {
    if (caller_team && caller_team_forks == forks) return caller_team;
    /* a parent's team is not freed: its locks may be held by threads that are gone */
    fnn_team *t = fnn_allocate(sizeof(fnn_team));
    if (!t) return NULL;
    *t = (fnn_team){.members = 1, .runtime = &fnn_own_runtime};
    fnn_make_lock(&t->lock, &t->wake);
    if (fnn_set_key(team_key, t)) {
        fnn_free(t);
        return NULL;
    }
    fnn_enter_callers(t);
    caller_team_forks = forks;
    return caller_team = t;
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

void fnn_set_runtime(const fnn_runtime *runtime) { process_runtime = runtime; }

const fnn_runtime *fnn_override_runtime(const fnn_runtime *runtime) {
    const fnn_runtime *before = runtime_override;
    runtime_override = runtime;
    return before;
}

/* In a forked child libgomp would wait for threads that are not there. */
const fnn_runtime *fnn_current_runtime(void) {
    if (forks) return &fnn_own_runtime;
    return runtime_override ? runtime_override : process_runtime;
}

/* Takes the threads from this runtime from now on. */
static void change_runtime(fnn_team *t, const fnn_runtime *runtime) {
    if (t->runtime == runtime) return;
    release(t);
    t->runtime = runtime;
}

/* Gets scratch for so many threads.  Returns 0, or -1 if memory is short. */
static int reserve(fnn_team *t, int threads) {
    if (t->scratch_threads >= threads) return 0;
    void *memory = fnn_allocate((size_t)threads * FNN_SCRATCH);
    if (!memory) return -1;
    fnn_free(t->scratch);
    t->scratch = memory;
    t->scratch_threads = threads;
    return 0;
}

/* A number that was set for this thread alone is not divided. */
static int granted(fnn_team *t, int64_t now) {
    return thread_override ? thread_override : process_threads / fnn_count_callers(t, now);
}

int fnn_granted_threads(void) {
    fnn_team *t = get_team();
    int threads = t ? granted(t, fnn_now()) : 1;
    return threads > 1 ? threads : 1;
}

/* How many threads so much work is worth.  Little work is worth several only if it follows other
 * work so soon that the followers are awake. */
static int threads_for(fnn_team *t, double work) {
    if (work < SERIAL_WORK) return 1;
    const int64_t now = fnn_now();
    fnn_note_caller(t, now);
    if (fnn_threads() == 1) return 1;
    if (work < wake_work && now - t->idle_since >= SPIN_TIME) return 1;
    int threads = granted(t, now);
    change_runtime(t, fnn_current_runtime());
    const int most = t->runtime->most ? t->runtime->most() : FNN_MAX_THREADS;
    if (threads > most) threads = most;
    return threads > 1 ? threads : 1;
}

static void run_together(fnn_team *t, const fnn_phase *phase) {
    t->chain = phase->chain;
    t->chains = phase->chains;
    for (int i = 0; i < t->shares; i++)
        atomic_store_explicit(&t->share[i].next, 0, memory_order_relaxed);
    const uint64_t open = atomic_load(&t->state) + 1;
    atomic_store(&t->state, open);
    fnn_wake_sleepers(t);
    work(t, 0, 0);
    atomic_store(&t->state, open + 1);
    const int members = t->members;
    int64_t end = 0;
    for (int i = 1; i < members; i++)
        while (atomic_load(&t->member[i].inside)) { /* after the phase was closed */
            if (!end) end = fnn_now() + spin_time(t);
            if (fnn_now() < end)
                pause_briefly();
            else
                fnn_yield(); /* the follower may be waiting for this core */
        }
}

static void run_phase(fnn_team *t, const fnn_phase *phase) {
    if (t->shares > 1 && phase->work >= PHASE_WORK) {
        run_together(t, phase);
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

static int met_fault(const fnn_program *p) { return p->fault && *p->fault != 0; }

/* Runs one step of a program.  Returns 0, or 1 if it met a fault, after which nothing more runs. */
static int run_step(fnn_team *t, const fnn_program *p) {
    for (const fnn_phase *phase = p->phase; phase < p->phase + p->phases; phase++) {
        for (const fnn_call *call = phase->alone; call < phase->alone + phase->alones; call++) {
            if (met_fault(p)) return 1;
            call->kernel(&call->arguments, 0, call->size, t->scratch);
        }
        if (met_fault(p)) return 1;
        run_phase(t, phase);
    }
    return met_fault(p);
}

/* Leads the team's program, or follows. */
static void take_part(fnn_team *t, int member, int members) {
    if (member > 0) {
        follow(t, member);
        return;
    }
    t->shares = members;
    while (t->done < t->steps && !run_step(t, t->program))
        if (++t->done < t->steps) fnn_note_caller(t, fnn_now());
    if (!t->runtime->release) { /* the followers leave */
        atomic_store(&t->members, 1);
        fnn_wake_sleepers(t);
    }
}

/* Runs so many steps of a program on so many threads.  Returns how many were done; fewer if one met
 * a fault. */
static ptrdiff_t run_steps(fnn_team *t, const fnn_program *p, ptrdiff_t steps, int threads) {
    t->program = p;
    t->steps = steps;
    t->done = 0;
    if (threads > 1) {
        atomic_store(&t->members, threads);
        t->runtime->gather(t, threads, take_part);
    } else {
        t->shares = 1;
        while (t->done < steps && !run_step(t, p)) t->done++;
    }
    return t->done;
}

/* Runs a small step with the team or alone, whichever was faster in the last trial.  If processors
 * are far from one another, the team costs more than it gains: a step of 12 us alone and 9 us
 * together took 21 us when the system had moved one of two virtual processors to another cache.
 * That may change at any time, so trials are repeated. */
static ptrdiff_t run_small_step(fnn_team *t, fnn_program *p, int threads) {
    const int trial = p->trial, together = trial < TRIAL_STEPS;
    p->trial = (trial + 1) % TRIAL_PERIOD;
    if (trial >= 2 * TRIAL_STEPS)
        return run_steps(t, p, 1, p->together_time <= p->alone_time ? threads : 1);
    int64_t *time = together ? &p->together_time : &p->alone_time;
    int64_t start = fnn_now();
    ptrdiff_t done = run_steps(t, p, 1, together ? threads : 1);
    if (trial % TRIAL_STEPS == 0)
        *time = 0; /* the first step may have woken the followers */
    else
        *time += fnn_now() - start;
    return done;
}

/* Runs so many steps, or until one meets a fault, with so many threads, small ones as trials tell. */
static ptrdiff_t run_program(fnn_team *t, fnn_program *p, ptrdiff_t steps, int threads) {
    if (threads == 1 || p->work >= SMALL_WORK) return run_steps(t, p, steps, threads);
    ptrdiff_t done = 0;
    while (done < steps && run_small_step(t, p, threads)) done++;
    return done;
}

/* The caller works no more for now. */
static void end_work(fnn_team *t) {
    t->idle_since = fnn_now();
    fnn_note_caller(t, 0);
}

int fnn_run(const fnn_call *call) {
    fnn_chain chain = {.calls = (fnn_call *)call, .count = 1, .units = call->units,
                       .grain = call->grain, .work = call->work};
    fnn_phase phase = {.chain = &chain, .chains = 1, .work = call->work};
    const fnn_program program = {.phase = &phase, .phases = 1};
    fnn_team *t = get_team();
    int threads = t && call->units > 1 ? threads_for(t, call->work) : 1;
    if (!t || reserve(t, threads)) return -1;
    arithmetic before = set_arithmetic(DEFAULT_ARITHMETIC);
    atomic_store_explicit(&t->running, 1, memory_order_relaxed);
    run_steps(t, &program, 1, threads);
    atomic_store_explicit(&t->running, 0, memory_order_relaxed);
    set_arithmetic(before);
    if (call->work >= SERIAL_WORK) end_work(t);
    return 0;
}

ptrdiff_t fnn_replay(const fnn_turn *turn, int turns, ptrdiff_t rounds) {
    double work = 0;
    for (int i = 0; i < turns; i++)
        work += turn[i].program->work * (double)turn[i].steps * (double)rounds;
    fnn_team *t = get_team();
    int threads = t ? threads_for(t, work) : 1;
    if (!t || reserve(t, threads)) return -1;
    arithmetic before = set_arithmetic(DEFAULT_ARITHMETIC);
    atomic_store_explicit(&t->running, 1, memory_order_relaxed);
    ptrdiff_t done = 0;
    for (ptrdiff_t i = 0, ran = 0, wanted = 0; ran == wanted && i < rounds * turns; i++) {
        wanted = turn[i % turns].steps;
        ran = run_program(t, turn[i % turns].program, wanted, threads);
        done += ran;
    }
    atomic_store_explicit(&t->running, 0, memory_order_relaxed);
    set_arithmetic(before);
    if (work >= SERIAL_WORK) end_work(t);
    return done;
}
