/* One team of threads per calling thread, always of the same size (libgomp ends the threads of
 * a team that shrinks).  A forked child that inherited a team has lost its threads, and would
 * wait for them for ever: it runs serially. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign, pthread_atfork */
#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* An empty region costs 1 to 2 us beside neighbours, in which a core does about this many
 * operations: below it a second thread cannot pay. */
#define SERIAL_WORK 400e3

static atomic_int process_threads = 1;
static atomic_int team_started, team_lost; /* team_lost: in a child forked after a region */
static __thread int own_threads;

typedef struct {
    char *memory;
    int threads;
} scratch_space;

static pthread_key_t scratch_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_scratch(void *space) {
    free(((scratch_space *)space)->memory);
    free(space);
}

static void in_forked_child(void) { team_lost = team_started; }

static void prepare(void) {
    pthread_key_create(&scratch_key, free_scratch);
    pthread_atfork(NULL, NULL, in_forked_child);
}

void fnn_set_threads(int threads) { process_threads = threads; }

int fnn_override_threads(int threads) {
    int before = own_threads;
    own_threads = threads;
    return before;
}

int fnn_threads(void) {
#ifdef _OPENMP
    if (team_lost) return 1;
    return own_threads ? own_threads : process_threads;
#else
    return 1;
#endif
}

int fnn_openmp(void) {
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}

int fnn_reserve(void) {
    pthread_once(&once, prepare);
    int threads = fnn_threads();
    scratch_space *space = pthread_getspecific(scratch_key);
    if (!space) {
        space = calloc(1, sizeof *space);
        if (!space || pthread_setspecific(scratch_key, space)) {
            free(space);
            return -1;
        }
    }
    if (space->threads < threads) {
        void *memory;
        if (posix_memalign(&memory, 64, (size_t)threads * FNN_SCRATCH)) return -1;
        free(space->memory);
        space->memory = memory;
        space->threads = threads;
    }
    return 0;
}

void fnn_run(const fnn_call *call) {
    char *scratch = ((scratch_space *)pthread_getspecific(scratch_key))->memory;
    int threads = fnn_threads();
    if (threads == 1 || call->units < 2 || call->work < SERIAL_WORK) {
        call->kernel(&call->arguments, 0, call->units, scratch);
        return;
    }
#ifdef _OPENMP
    team_started = 1;
#pragma omp parallel num_threads(threads)
    {
        ptrdiff_t size = omp_get_num_threads(), me = omp_get_thread_num();
        ptrdiff_t begin = call->units * me / size, end = call->units * (me + 1) / size;
        if (begin < end)
            call->kernel(&call->arguments, begin, end, scratch + me * FNN_SCRATCH);
    }
#endif
}
