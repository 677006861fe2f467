/* Teams: how many threads run a call or a program, and what each of them does. */
#ifndef FNN_TEAM_H
#define FNN_TEAM_H

#include <stdatomic.h>

#include "fastnn.h"
#include "runtime.h"
#include "system.h"

/* ---- for the faces ---- */

void fnn_set_up_threads(void);         /* once, before anything else here */
void fnn_set_threads(int threads);     /* for the process, 1 to FNN_MAX_THREADS */
int fnn_override_threads(int threads); /* for the calling thread, 0: as for the process; returns the
                                        * number before */
/* How many threads the calling thread's calls may use.  The one visible symbol but the module's
 * own: threadpoolctl knows the library by it. */
FNN_EXPORT int fnn_threads(void);

/* The same of its next large call: callers that work at the same time share the threads. */
int fnn_granted_threads(void);

/* Where the threads come from, in the same way: for the process, and for the calling thread, where
 * NULL means as for the process. */
void fnn_set_runtime(const fnn_runtime *runtime);
const fnn_runtime *fnn_override_runtime(const fnn_runtime *runtime);
const fnn_runtime *fnn_current_runtime(void);
int fnn_is_forked(void); /* whether this process was forked since fnn_set_up_threads */

/* From how many operations on sleeping workers are woken; tests lower it.  Returns the number
 * before. */
double fnn_set_wake_work(double operations);

/* Runs the call, with the team if the work is worth it; the results' bits do not depend on that.
 * Returns 0; or -1, and nothing ran, if there is no memory for the team or its scratch. */
int fnn_run(const fnn_call *call);

/* A scheduled program, and how many of its steps follow one another. */
typedef struct {
    fnn_program *program;
    ptrdiff_t steps;
} fnn_turn;

/* Replays programs by turns, `rounds` times each, or until a step meets a fault.  Returns how many
 * steps were done in all; or -1 as above. */
ptrdiff_t fnn_replay(const fnn_turn *turn, int turns, ptrdiff_t rounds);

/* ---- inside a team: for team.c, workers.c and callers.c ---- */

typedef struct {
    _Alignas(64) atomic_ptrdiff_t next; /* the first piece that nobody has claimed */
} fnn_share;

typedef struct {
    _Alignas(64) atomic_int inside; /* whether this member is in the open phase */
    fnn_team *team;                 /* for workers.c: what its thread does, and where */
    fnn_part *part;
} fnn_member;

struct fnn_team {
    /* what a waiting follower reads is on one cache line: 3 % of a step of 9 us */
    _Alignas(64) atomic_uint_fast64_t state; /* see team.c */
    const fnn_chain *chain;                  /* the phase's */
    int chains, shares;
    atomic_int running; /* whether a call or a program runs */
    atomic_int members; /* followers with this number or a higher one leave */
    const fnn_runtime *runtime;
    _Alignas(64) atomic_int sleepers;
    int64_t idle_since; /* when the caller's last work ended */
    fnn_share share[FNN_MAX_THREADS];
    fnn_member member[FNN_MAX_THREADS];
    const fnn_program *program; /* what the leader runs: so many steps, of which so many are done */
    ptrdiff_t steps, done;
    char *scratch;
    int scratch_threads;
    fnn_lock lock;
    fnn_condition wake;
    fnn_thread worker[FNN_MAX_THREADS]; /* of workers.c: the thread of each member, */
    int workers;                        /* and how many it has started */
    atomic_int_fast64_t *seen;          /* of callers.c: the caller's place, */
    int64_t counted;                    /* when it last counted the callers, */
    int callers;                        /* and how many there were */
};

extern const fnn_runtime fnn_own_runtime;

int64_t fnn_now(void); /* nanoseconds, of all processes' clock */
void fnn_wake_sleepers(fnn_team *team);

void fnn_set_up_callers(void);
void fnn_enter_callers(fnn_team *team); /* a new team: the caller has a place among them */
void fnn_note_caller(fnn_team *team, int64_t now);  /* it works; 0: no more */
int fnn_count_callers(fnn_team *team, int64_t now); /* who does, here and in forked processes */

#endif
