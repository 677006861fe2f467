/* Where the threads of a team come from: workers.c, which are the library's own, or openmp.c, an
 * extension module of its own.  What the threads of a team do is team.c's. */
#ifndef FNN_RUNTIME_H
#define FNN_RUNTIME_H

#include <stdint.h>

#define FNN_MAX_THREADS 256

typedef struct fnn_team fnn_team;

/* What a member of a team does, thread 0 of so many: the first leads, and the others follow until
 * they are not needed any more. */
typedef void fnn_part(fnn_team *team, int member, int members);

typedef struct {
    const char *name;
    /* Calls part(team, 0, n) on the calling thread, while part(team, i, n) runs on n - 1 others; n
     * is `members` or, where the system has not so many, less. */
    void (*gather)(fnn_team *team, int members, fnn_part *part);
    /* Ends the team's threads, where it keeps them; NULL: followers leave at the end of each part. */
    void (*release)(fnn_team *team);
    /* How many threads a team may have where the calling thread now is; NULL: as many as it likes. */
    int (*most)(void);
    int64_t patience; /* nanoseconds that a follower waits awake; -1: as team.c likes */
} fnn_runtime;

#endif
