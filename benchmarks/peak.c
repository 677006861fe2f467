/* What this machine can do at best: fused multiply-adds from registers, and bandwidth.

   peak THREADS BYTES...    prints a line a figure, the best of several turns:
     fma WIDTH FLOP/s         for every vector width (in bytes) that the compiler may use
     update BYTES B/s         y += a x, two reads and a write; x and y together fill BYTES
     read BYTES B/s           sum x and y

   Every thread has arrays of its own, BYTES / THREADS of them.  limits.py compiles and runs it. */

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

enum { CHAINS = 12, MULTIPLY_ADDS = 1 << 21, TURNS = 9, MAX_THREADS = 256 };
static const double MOVED = 1e9; /* bytes a turn at least, per thread */

typedef float vec __attribute__((vector_size(WIDEST)));
typedef struct job job;
struct job {
    double (*run)(const job *); /* returns the operations or bytes it made */
    size_t n;                   /* vectors in x, and in y */
    vec *x, *y;
    double made, seconds;
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
#if WIDEST >= 32
FMA(32)
#endif
#if WIDEST >= 64
FMA(64)
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
    double begun = now();
    j->made = j->run(j);
    j->seconds = now() - begun;
    return NULL;
}

/* The rate of all threads together, the best of the turns. */
static double best(job *jobs, double (*run)(const job *)) {
    double rate = 0;
    pthread_t ids[MAX_THREADS];
    for (int turn = 0; turn < TURNS; turn++) {
        double made = 0, slowest = 0;
        atomic_store(&ready, 0);
        for (int t = 0; t < threads; t++) {
            jobs[t].run = run;
            if (pthread_create(&ids[t], NULL, start, &jobs[t])) exit(1);
        }
        for (int t = 0; t < threads; t++) {
            pthread_join(ids[t], NULL);
            made += jobs[t].made;
            if (jobs[t].seconds > slowest) slowest = jobs[t].seconds;
        }
        if (made / slowest > rate) rate = made / slowest;
    }
    return rate;
}

static void allocate(job *j, size_t bytes) {
    j->n = bytes / (size_t)threads / 2 / sizeof(vec);
    j->x = aligned_alloc(4096, (j->n * sizeof(vec) / 4096 + 1) * 4096);
    j->y = aligned_alloc(4096, (j->n * sizeof(vec) / 4096 + 1) * 4096);
    if (!j->x || !j->y || j->n < 2) exit(1);
    for (size_t i = 0; i < j->n; i++) j->x[i] = j->y[i] = (vec){0} + 1.0f;
}

int main(int count, char **arguments) {
    static job jobs[MAX_THREADS];
    threads = count > 1 ? atoi(arguments[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) return 1;
    printf("fma 16 %.4g\n", best(jobs, fma16));
#if WIDEST >= 32
    printf("fma 32 %.4g\n", best(jobs, fma32));
#endif
#if WIDEST >= 64
    printf("fma 64 %.4g\n", best(jobs, fma64));
#endif
    for (int i = 2; i < count; i++) {
        for (int t = 0; t < threads; t++) allocate(&jobs[t], (size_t)atof(arguments[i]));
        printf("update %s %.4g\n", arguments[i], best(jobs, update));
        printf("read %s %.4g\n", arguments[i], best(jobs, read_both));
        for (int t = 0; t < threads; t++) free(jobs[t].x), free(jobs[t].y);
    }
    return 0;
}
