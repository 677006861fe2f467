/* Programs: calls that were recorded once and are sorted into phases, to be replayed.
 *
 * Two calls conflict if one writes what the other reads or writes; then the later one must wait.
 * If both have equally many units and touch that memory unit by unit, as the layers of a network do
 * with the rows of a batch, or wide layers with columns, each unit need only wait for the same unit
 * of the earlier call: such calls may be in one phase.  Within a phase, all calls with the same
 * number of units form a chain: a thread runs a piece of the units through all of them while it is
 * in its cache.
 *
 * Calls of one unit and little work run alone, before the phase's chains; so calls that need only
 * those may be in the same phase.  Between phases all threads wait for one another. */
#include "fastnn.h"

#include <stdlib.h>
#include <string.h>

#define ALONE_WORK 1e5 /* in operations: up to this, a call of one unit is not worth a phase */

int fnn_record(fnn_program *p, const fnn_call *call) {
    if (p->count == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 32;
        fnn_call *calls = realloc(p->calls, (size_t)capacity * sizeof *calls);
        if (!calls) return -1;
        p->calls = calls;
        p->capacity = capacity;
    }
    p->calls[p->count++] = *call;
    return 0;
}

void fnn_clear(fnn_program *p) {
    free(p->calls);
    free(p->phase);
    free(p->chain);
    memset(p, 0, sizeof *p);
}

const fnn_access *fnn_written(const fnn_program *p, const char *begin, const char *end) {
    for (int i = p->count; i-- > 0;) {
        const fnn_call *call = &p->calls[i];
        for (const fnn_access *a = call->access; a < call->access + call->accesses; a++)
            if (a->writes && a->begin == begin && a->end == end) return a;
    }
    return NULL;
}

static int is_alone(const fnn_call *call) { return call->units == 1 && call->work <= ALONE_WORK; }

enum { NO_CONFLICT, UNIT_BY_UNIT, ALL_WITH_ALL };

static int conflict(const fnn_call *x, const fnn_call *y) {
    int found = NO_CONFLICT;
    for (const fnn_access *a = x->access; a < x->access + x->accesses; a++)
        for (const fnn_access *b = y->access; b < y->access + y->accesses; b++) {
            if (!(a->writes || b->writes) || a->begin >= b->end || b->begin >= a->end) continue;
            if (!a->unit || a->unit != b->unit || a->line != b->line || a->begin != b->begin ||
                x->units != y->units)
                return ALL_WITH_ALL;
            found = UNIT_BY_UNIT;
        }
    return found;
}

/* The first phase in which call j may run; the calls before it have theirs. */
static int earliest_phase(const fnn_call *calls, const int *phase, int j) {
    int first = 0;
    for (int i = 0; i < j; i++) {
        if (phase[i] < first) continue;
        int kind = conflict(&calls[i], &calls[j]);
        if (kind == NO_CONFLICT) continue;
        int together = is_alone(&calls[i]) || (kind == UNIT_BY_UNIT && !is_alone(&calls[j]));
        if (phase[i] + !together > first) first = phase[i] + !together;
    }
    return first;
}

/* What calls are sorted by; `number` is that of the recorded call. */
typedef struct {
    int phase, alone, number;
    ptrdiff_t units;
} sort_key;

static int compare_keys(const void *x, const void *y) {
    const sort_key *a = x, *b = y;
    if (a->phase != b->phase) return a->phase - b->phase;
    if (a->alone != b->alone) return b->alone - a->alone;
    if (a->units != b->units) return a->units < b->units ? 1 : -1; /* many units first */
    return a->number - b->number;
}

/* Makes phases and chains of the sorted calls, which have these keys. */
static void gather(fnn_program *p, const sort_key *key) {
    fnn_chain *chain = NULL, *next = p->chain;
    for (int i = 0; i < p->count; i++) {
        fnn_call *call = &p->calls[i];
        fnn_phase *phase = &p->phase[key[i].phase];
        if (i == 0 || key[i].phase != key[i - 1].phase)
            *phase = (fnn_phase){.alone = call, .chain = next};
        if (key[i].alone) {
            phase->alones++;
            continue;
        }
        if (!phase->chains || chain->units != call->units) {
            chain = next++;
            *chain = (fnn_chain){.calls = call, .units = call->units};
            phase->chains++;
        }
        chain->count++;
        chain->work += call->work;
        phase->work += call->work;
        if (call->grain > chain->grain) chain->grain = call->grain;
        for (const fnn_access *a = call->access; a < call->access + call->accesses; a++)
            if (a->writes) chain->bytes += a->unit * (a->line ? (a->end - a->begin) / a->line : 1);
    }
}

int fnn_schedule(fnn_program *p) {
    if (!p->count) return 0; /* `calls` is NULL, which memcpy must not get */
    size_t count = (size_t)p->count;
    fnn_call *sorted = calloc(count + 1, sizeof *sorted);
    sort_key *key = calloc(count + 1, sizeof *key);
    int *phase = calloc(count + 1, sizeof *phase);
    p->phase = calloc(count + 1, sizeof *p->phase);
    p->chain = calloc(count + 1, sizeof *p->chain);
    int status = sorted && key && phase && p->phase && p->chain ? 0 : -1;
    for (int i = 0; i < p->count && !status; i++) {
        phase[i] = earliest_phase(p->calls, phase, i);
        key[i] = (sort_key){phase[i], is_alone(&p->calls[i]), i, p->calls[i].units};
        if (phase[i] >= p->phases) p->phases = phase[i] + 1;
        p->work += p->calls[i].work;
    }
    if (!status) {
        qsort(key, count, sizeof *key, compare_keys);
        for (int i = 0; i < p->count; i++) sorted[i] = p->calls[key[i].number];
        memcpy(p->calls, sorted, count * sizeof *sorted);
        gather(p, key);
    }
    free(sorted);
    free(key);
    free(phase);
    return status;
}
