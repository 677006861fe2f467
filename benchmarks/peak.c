/* What this machine can do at best: fused multiply-adds from registers, and bandwidth.

   peak THREADS BYTES...    prints a line a figure, the best of several turns:
     fma WIDTH FLOP/s         for every vector width (in bytes) that the compiler may use
     update BYTES B/s         y += a x, two reads and a write; x and y together fill BYTES
     read BYTES B/s           sum x and y

   Every thread has separate arrays of BYTES / THREADS.  limits.py compiles and runs it. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDEST 64
#elif defined(__AVX__)
#define WIDEST 32
#else
#define WIDEST 16
#endif

enum { CHAINS = 12, MULTIPLY_ADDS = 1 << 21, TURNS = 25, MAX_THREADS = 256, MAX_FIGURES = 32 };
static const double MOVED = 1e9; /* bytes a turn at least, per thread */

typedef float vec __attribute__((vector_size(WIDEST)));
typedef struct job job;
struct job {
    double (*run)(const job *); /* returns its number of operations or bytes */
    size_t n;                   /* vectors in x, and in y */
    vec *x, *y;
    double made, begun, ended;
};

static atomic_int ready;
static int threads;
static volatile float sink;

/* Independent chains, enough for any latency, all in registers. */
#define FMA(WIDTH)                                                                            \
    static double fma##WIDTH(const job *j) {                                                  \
        typedef float wide __attribute__((vector_size(WIDTH)));                               \
        wide sums[CHAINS], factor = (wide){0} + 0.999f, term = (wide){0} + 0.001f;            \
        for (int c = 0; c < CHAINS; c++) sums[c] = (wide){0} + (float)(c + (j->n > 0));       \
        for (int i = 0; i < MULTIPLY_ADDS; i++)                                               \
            for (int c = 0; c < CHAINS; c++) sums[c] = sums[c] * factor + term;               \
        for (int c = 1; c < CHAINS; c++) sums[0] += sums[c];                                  \
        sink = sums[0][0];                                                                    \
        return 2.0 * MULTIPLY_ADDS * CHAINS * (WIDTH / sizeof(float));                        \
    }

FMA(16)
#if WIDEST >= 64
FMA(32)
FMA(64)
#define FMA_FIGURES {"fma", fma16, 16, 0}, {"fma", fma32, 32, 0}, {"fma", fma64, 64, 0}
#elif WIDEST >= 32
FMA(32)
#define FMA_FIGURES {"fma", fma16, 16, 0}, {"fma", fma32, 32, 0}
#else
#define FMA_FIGURES {"fma", fma16, 16, 0}
#endif

static double update(const job *j) {
    double bytes = 0;
    for (; bytes < MOVED; bytes += 3.0 * (double)(j->n * sizeof(vec)))
#pragma GCC unroll 4
        for (size_t i = 0; i < j->n; i++) j->y[i] += 1e-9f * j->x[i];
    return bytes;
}

static double read_both(const job *j) {
    double bytes = 0;
    vec sums[4] = {{0}};
    for (; bytes < MOVED; bytes += 2.0 * (double)(j->n * sizeof(vec)))
        for (size_t i = 0; i + 2 <= j->n; i += 2)
            for (size_t k = 0; k < 2; k++) {
                sums[k] += j->x[i + k];
                sums[2 + k] += j->y[i + k];
            }
    sink = (sums[0] + sums[1] + sums[2] + sums[3])[0];
    return bytes;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *start(void *argument) {
    job *j = argument;
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < threads) {
    }
    j->begun = now();
    j->made = j->run(j);
    j->ended = now();
    return NULL;
}

/* The rate of all threads together. */
static double rate(job *jobs, double (*run)(const job *), size_t bytes) {
    pthread_t ids[MAX_THREADS];
    double made = 0, begun = 1e300, ended = 0;
    atomic_store(&ready, 0);
    for (int t = 0; t < threads; t++) {
        jobs[t].run = run;
        jobs[t].n = bytes / (size_t)threads / 2 / sizeof(vec);
        if (pthread_create(&ids[t], NULL, start, &jobs[t])) exit(1);
    }
    for (int t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        made += jobs[t].made;
        if (jobs[t].begun < begun) begun = jobs[t].begun;
        if (jobs[t].ended > ended) ended = jobs[t].ended;
    }
    return made / (ended - begun);
}

static vec *filled(size_t bytes) {
    size_t whole = (bytes / 4096 + 1) * 4096;
    vec *x = aligned_alloc(4096, whole);
    if (!x) exit(1);
    for (size_t i = 0; i < whole / sizeof(vec); i++) x[i] = (vec){0} + 1.0f;
    return x;
}

int main(int count, char **arguments) {
    static job jobs[MAX_THREADS];
    static struct figure {
        const char *name;
        double (*run)(const job *);
        size_t size; /* bytes of the vector, or of the arrays */
        double best;
    } figures[MAX_FIGURES] = {FMA_FIGURES};
    int n = sizeof((struct figure[]){FMA_FIGURES}) / sizeof(struct figure);
    size_t largest = 0;
    threads = count > 1 ? atoi(arguments[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) return 1;
    for (int i = 2; i < count && n + 2 <= MAX_FIGURES; i++) {
        size_t bytes = (size_t)atof(arguments[i]);
        figures[n++] = (struct figure){"update", update, bytes, 0};
        figures[n++] = (struct figure){"read", read_both, bytes, 0};
        if (bytes > largest) largest = bytes;
    }
    for (int t = 0; t < threads; t++) {
        jobs[t].x = filled(largest / (size_t)threads / 2);
        jobs[t].y = filled(largest / (size_t)threads / 2);
    }
    for (int turn = 0; turn < TURNS; turn++) /* all in each, since a disturbance lasts */
        for (struct figure *f = figures; f < figures + n; f++) {
            double found = rate(jobs, f->run, f->size);
            if (found > f->best) f->best = found;
        }
    for (struct figure *f = figures; f < figures + n; f++)
        printf("%s %zu %.4g\n", f->name, f->size, f->best);
    return 0;
}
