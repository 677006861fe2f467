/* fastnn._openmp: threads from OpenMP.  One parallel region spans a call, or a program with all its
 * steps; inside it phases run as in team.c.  At its end the caller waits for all of its threads.
 *
 * It is a module of its own, so that nobody loads an OpenMP library who has not asked for it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr */
#endif
#include <dlfcn.h>
#include <omp.h>
#include <strings.h>

#include "runtime.h"

#ifndef _OPENMP
#error "this file needs a compiler with OpenMP"
#endif

static void gather(fnn_team *team, int members, fnn_part *part) {
#pragma omp parallel num_threads(members)
    part(team, omp_get_thread_num(), omp_get_num_threads());
}

/* Inside somebody's parallel region the other threads are taken. */
static int most(void) { return omp_in_parallel() ? 1 : FNN_MAX_THREADS; }

static fnn_runtime runtime = {.name = "openmp", .gather = gather, .most = most, .patience = -1};

/* OMP_WAIT_POLICY is for the library's threads between regions; ours wait by it inside them. */
static int64_t patience(void) {
    const char *policy = getenv("OMP_WAIT_POLICY");
    if (policy && !strcasecmp(policy, "active")) return INT64_MAX / 2;
    if (policy && !strcasecmp(policy, "passive")) return 0;
    return -1;
}

/* Where the OpenMP library lies that runs, which may be another module's. */
static const char *library_path(void) {
    Dl_info info;
    return dladdr((void *)omp_get_max_threads, &info) && info.dli_fname ? info.dli_fname : "";
}

static int execute(PyObject *module) {
    omp_get_max_threads(); /* libomp reads its variables with its first call */
    runtime.patience = patience();
    PyObject *capsule = PyCapsule_New(&runtime, "fnn_runtime", NULL);
    if (!capsule) return -1;
    int failed = PyModule_AddObjectRef(module, "runtime", capsule);
    Py_DECREF(capsule);
    return failed ? -1 : PyModule_AddStringConstant(module, "path", library_path());
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "fastnn._openmp",
                                 .m_doc = "Threads from OpenMP, for fastnn.set_runtime.",
                                 .m_slots = slots};

PyMODINIT_FUNC PyInit__openmp(void) { return PyModuleDef_Init(&definition); }
