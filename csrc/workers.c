/* The library's own threads.  A team's workers stay from one call to the next, asleep when there is
 * nothing to do, so that the caller waits for none that comes late: the others run its share. */
#define _POSIX_C_SOURCE 200112L /* pthread_sigmask */
#include "team.h"

#include <signal.h>

static void *worker_main(void *argument) {
    fnn_member *me = argument;
    me->part(me->team, (int)(me - me->team->member), 0);
    return NULL;
}

/* Ends all workers with the number `first` or a higher one, which leave as members.  They are
 * waited for, because a thread that counts as no member must not be inside the next phase. */
static void stop_workers(fnn_team *t, int first) {
    fnn_wake_sleepers(t);
    for (int i = first; i <= t->workers; i++) pthread_join(t->worker[i], NULL);
    t->workers = first - 1;
}

/* Starts workers until there are so many, or as many as the system allows: the others run the
 * shares of those that are missing.  Workers block all signals, which are for the program's
 * threads. */
static void start_workers(fnn_team *t, int workers, fnn_part *part) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (t->workers < workers) {
        const int i = t->workers + 1;
        t->member[i].team = t;
        t->member[i].part = part;
        if (pthread_create(&t->worker[i], NULL, worker_main, &t->member[i])) break;
        t->workers = i;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void gather(fnn_team *t, int members, fnn_part *part) {
    if (t->workers >= members) stop_workers(t, members);
    if (t->workers < members - 1) start_workers(t, members - 1, part);
    part(t, 0, members);
}

static void release(fnn_team *t) { stop_workers(t, 1); }

const fnn_runtime fnn_own_runtime = {
    .name = "own", .gather = gather, .release = release, .patience = -1};
