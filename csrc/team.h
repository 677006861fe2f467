/* Threads: the one policy, and the only file that knows them.  See team.c. */
#ifndef FNN_TEAM_H
#define FNN_TEAM_H

#include "fastnn.h"

#define FNN_MAX_THREADS 256

void fnn_set_threads(int threads);     /* for the process; 1 .. FNN_MAX_THREADS */
int fnn_override_threads(int threads); /* for the calling thread, 0: none; returns the last */
int fnn_threads(void);                 /* how many the calling thread's kernels may use now */

/* Operations for which workers that sleep are woken; tests lower it.  Returns what it was. */
double fnn_set_wake_work(double operations);

/* Runs the call, on the team if the work is worth it; the results' bits do not depend on that.
 * Returns -1, having run nothing, if there is no memory for the team or its scratch space. */
int fnn_run(const fnn_call *call);

/* Replays a program that was scheduled, so many steps one after the other, or until one meets a
 * fault.  Returns how many were done; -1 as above. */
ptrdiff_t fnn_replay(fnn_program *program, ptrdiff_t steps);

#endif
