/* What the threads need of the operating system: POSIX as it is, and the same names for Windows,
 * where a lock and a condition variable need no end and a process cannot fork. */
#ifndef FNN_SYSTEM_H
#define FNN_SYSTEM_H

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <malloc.h>

#define FNN_EXPORT __declspec(dllexport)

typedef SRWLOCK fnn_lock;
typedef CONDITION_VARIABLE fnn_condition;
typedef HANDLE fnn_thread;
typedef DWORD fnn_thread_key;

static inline void fnn_make_lock(fnn_lock *lock, fnn_condition *condition) {
    InitializeSRWLock(lock);
    InitializeConditionVariable(condition);
}
static inline void fnn_end_lock(fnn_lock *lock, fnn_condition *condition) {
    (void)lock, (void)condition;
}
static inline void fnn_take(fnn_lock *lock) { AcquireSRWLockExclusive(lock); }
static inline void fnn_give(fnn_lock *lock) { ReleaseSRWLockExclusive(lock); }
static inline void fnn_wait(fnn_condition *condition, fnn_lock *lock) {
    SleepConditionVariableSRW(condition, lock, INFINITE, 0);
}
static inline void fnn_wake_all(fnn_condition *condition) { WakeAllConditionVariable(condition); }

/* What a thread runs, and what is called with a thread's value when the thread ends. */
#define FNN_THREAD_MAIN(name, argument) static DWORD WINAPI name(void *argument)
#define FNN_THREAD_END(name, value) static void WINAPI name(void *value)

static inline int fnn_start_thread(fnn_thread *thread, LPTHREAD_START_ROUTINE main,
                                   void *argument) {
    *thread = CreateThread(NULL, 0, main, argument, 0, NULL);
    return *thread == NULL;
}
static inline void fnn_join_thread(fnn_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static inline int fnn_make_key(fnn_thread_key *key, PFLS_CALLBACK_FUNCTION end) {
    *key = FlsAlloc(end);
    return *key == FLS_OUT_OF_INDEXES;
}
static inline int fnn_set_key(fnn_thread_key key, void *value) { return !FlsSetValue(key, value); }

static inline void *fnn_allocate(size_t bytes) { return _aligned_malloc(bytes, 64); }
static inline void fnn_free(void *memory) { _aligned_free(memory); }

static inline int64_t fnn_nanoseconds(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return ticks.QuadPart / per_second.QuadPart * 1000000000 +
           ticks.QuadPart % per_second.QuadPart * 1000000000 / per_second.QuadPart;
}
static inline int fnn_processors(void) {
    return (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
}
static inline void fnn_yield(void) { SwitchToThread(); }
static inline void fnn_at_fork(void (*in_child)(void)) { (void)in_child; }

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define FNN_EXPORT __attribute__((visibility("default")))

typedef pthread_mutex_t fnn_lock;
typedef pthread_cond_t fnn_condition;
typedef pthread_t fnn_thread;
typedef pthread_key_t fnn_thread_key;

static inline void fnn_make_lock(fnn_lock *lock, fnn_condition *condition) {
    pthread_mutex_init(lock, NULL);
    pthread_cond_init(condition, NULL);
}
static inline void fnn_end_lock(fnn_lock *lock, fnn_condition *condition) {
    pthread_cond_destroy(condition);
    pthread_mutex_destroy(lock);
}
static inline void fnn_take(fnn_lock *lock) { pthread_mutex_lock(lock); }
static inline void fnn_give(fnn_lock *lock) { pthread_mutex_unlock(lock); }
static inline void fnn_wait(fnn_condition *condition, fnn_lock *lock) {
    pthread_cond_wait(condition, lock);
}
static inline void fnn_wake_all(fnn_condition *condition) { pthread_cond_broadcast(condition); }

#define FNN_THREAD_MAIN(name, argument) static void *name(void *argument)
#define FNN_THREAD_END(name, value) static void name(void *value)

/* Returns 0, or else if the system starts no more.  The thread blocks all signals, which are for
 * the program's threads. */
static inline int fnn_start_thread(fnn_thread *thread, void *(*main)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}
static inline void fnn_join_thread(fnn_thread thread) { pthread_join(thread, NULL); }
static inline int fnn_make_key(fnn_thread_key *key, void (*end)(void *)) {
    return pthread_key_create(key, end);
}
static inline int fnn_set_key(fnn_thread_key key, void *value) {
    return pthread_setspecific(key, value);
}

static inline void *fnn_allocate(size_t bytes) {
    void *memory;
    return posix_memalign(&memory, 64, bytes) ? NULL : memory;
}
static inline void fnn_free(void *memory) { free(memory); }

static inline int64_t fnn_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}
static inline int fnn_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
static inline void fnn_yield(void) { sched_yield(); }
static inline void fnn_at_fork(void (*in_child)(void)) { pthread_atfork(NULL, NULL, in_child); }

#endif
#endif
