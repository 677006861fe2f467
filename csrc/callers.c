/* Who else works: the calling threads of this process, of those that it was forked from and of those
 * that were forked from it.
 *
 * They share the threads that one alone would have.  So two trainings in two Python threads, or in
 * the processes of a pool, have one core each where there are two; else every one of four threads'
 * trainings would bring a team of its own.
 *
 * While a caller works, the time stands at its place in memory that forked processes share, anew at
 * each step.  After a second it counts no more, since its process may have been killed. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#define _DARWIN_C_SOURCE
#include "team.h"

#if !defined(_WIN32)
#include <sys/mman.h>
#endif

#define PLACES 256           /* of more callers, some share a place */
#define TRUSTED 1000000000   /* nanoseconds for which a caller is taken to work after it said so */
#define COUNT_PERIOD 1000000 /* nanoseconds from one count to the next */

typedef struct {
    _Alignas(64) atomic_int_fast64_t seen; /* 0: does not work */
} place;

typedef struct {
    atomic_uint callers; /* that ever were */
    place place[PLACES];
} register_of_callers;

static register_of_callers alone, *shared = &alone;

void fnn_set_up_callers(void) {
#if !defined(_WIN32) /* where processes do not fork */
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                        -1, 0);
    if (memory != MAP_FAILED) shared = memory; /* else processes do not know of one another */
#endif
}

void fnn_enter_callers(fnn_team *t) {
    t->seen = &shared->place[atomic_fetch_add(&shared->callers, 1) % PLACES].seen;
    t->callers = 1;
}

void fnn_note_caller(fnn_team *t, int64_t now) {
    atomic_store_explicit(t->seen, now, memory_order_relaxed);
}

int fnn_count_callers(fnn_team *t, int64_t now) {
    if (now - t->counted < COUNT_PERIOD) return t->callers;
    const unsigned ever = atomic_load(&shared->callers);
    t->counted = now;
    t->callers = 1;
    for (unsigned i = 0; i < (ever < PLACES ? ever : PLACES); i++) {
        const atomic_int_fast64_t *seen = &shared->place[i].seen;
        if (seen == t->seen) continue;
        const int64_t then = atomic_load_explicit(seen, memory_order_relaxed);
        t->callers += then && now - then < TRUSTED;
    }
    return t->callers;
}
