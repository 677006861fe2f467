/* Threads and the policy that decides how many run; team.c is the only file that knows them. */
#ifndef FNN_TEAM_H
#define FNN_TEAM_H

#include "fastnn.h"

#define FNN_MAX_THREADS 256

void fnn_set_threads(int threads);     /* for the process, 1 to FNN_MAX_THREADS */
int fnn_override_threads(int threads); /* for the calling thread, 0: as for the process; returns the
                                        * number before */
int fnn_threads(void);                 /* how many threads the calling thread's calls may use */

/* From how many operations on sleeping workers are woken; tests lower it.  Returns the number
 * before. */
double fnn_set_wake_work(double operations);

/* Runs the call, with the team if the work is worth it; the results' bits do not depend on that.
 * Returns 0; or -1, and nothing ran, if there is no memory for the team or its scratch. */
int fnn_run(const fnn_call *call);

/* Replays a scheduled program, `steps` times or until a step meets a fault.  Returns how many steps
 * were done; or -1 as above. */
ptrdiff_t fnn_replay(fnn_program *program, ptrdiff_t steps);

#endif
