/* The library's own threads.  A team's workers stay from one call to the next, asleep when there is
 * nothing to do, so that the caller waits for none that comes late: the others run its share. */
#define _POSIX_C_SOURCE 200112L /* for system.h, as is */
#define _DARWIN_C_SOURCE        /* _SC_NPROCESSORS_ONLN on macOS */
#include "team.h"

FNN_THREAD_MAIN(worker_main, argument) {
    fnn_member *me = argument;
    me->part(me->team, (int)(me - me->team->member), 0);
    return 0;
}

/* Ends all workers with the number `first` or a higher one, which leave as members.  They are
 * waited for, because a thread that counts as no member must not be inside the next phase. */
static void stop_workers(fnn_team *t, int first) {
    fnn_wake_sleepers(t);
    for (int i = first; i <= t->workers; i++) fnn_join_thread(t->worker[i]);
    t->workers = first - 1;
}

/* Starts workers until there are so many, or as many as the system allows: the others run the
 * shares of those that are missing. */
static void start_workers(fnn_team *t, int workers, fnn_part *part) {
    while (t->workers < workers) {
        const int i = t->workers + 1;
        t->member[i].team = t;
        t->member[i].part = part;
        if (fnn_start_thread(&t->worker[i], worker_main, &t->member[i])) break;
        t->workers = i;
    }
}

static void gather(fnn_team *t, int members, fnn_part *part) {
    if (t->workers >= members) stop_workers(t, members);
    if (t->workers < members - 1) start_workers(t, members - 1, part);
    part(t, 0, members);
}

static void release(fnn_team *t) { stop_workers(t, 1); }

const fnn_runtime fnn_own_runtime = {
    .name = "own", .gather = gather, .release = release, .patience = -1};
