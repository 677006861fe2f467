/* A Python module whose import makes NumPy give each array pages of its own, with an inaccessible
 * page on both sides: so each read or write beyond an array ends the process.  GUARD=behind: the
 * array's last byte is the last before the page behind it; GUARD=before: its first is the first
 * behind the page before it.  New memory is full of 0xff bytes, which are NaN. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page;
static int behind;

static size_t pages_for(size_t size) { return (size + page - 1) / page * page; }

static void *guarded_alloc(void *context, size_t size) {
    (void)context;
    if (!size) size = 1; /* as NumPy asks */
    const size_t inside = pages_for(size);
    char *begin = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) return NULL;
    if (mprotect(begin + page, inside, PROT_READ | PROT_WRITE)) return NULL;
    char *array = begin + page + (behind ? inside - size : 0);
    memset(array, 0xff, size);
    return array;
}

static void guarded_free(void *context, void *array, size_t size) {
    (void)context;
    if (!array) return;
    char *begin = (char *)((uintptr_t)array / page * page) - page;
    munmap(begin, pages_for(size ? size : 1) + 2 * page);
}

static void *guarded_calloc(void *context, size_t count, size_t each) {
    void *array = guarded_alloc(context, count * each);
    if (array) memset(array, 0, count * each);
    return array;
}

/* The old size is that of the mapping: up to the page behind, which this finds by asking for it. */
static void *guarded_realloc(void *context, void *old, size_t size) {
    char *array = guarded_alloc(context, size);
    if (!old || !array) return array;
    const size_t at = (uintptr_t)old % page;
    size_t inside = page; /* of the old array's pages */
    unsigned char present;
    char *first = (char *)old - at;
    while (inside < at + size && !mincore(first + inside, page, &present) && present & 1)
        inside += page;
    const size_t had = inside - at;
    memcpy(array, old, had < size ? had : size);
    return array; /* the old pages stay: a proof's process is short */
}

static PyDataMem_Handler handler = {
    "guarded", 1, {NULL, guarded_alloc, guarded_calloc, guarded_realloc, guarded_free}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "guarded", .m_size = -1};

PyMODINIT_FUNC PyInit_guarded(void) {
    const char *side = getenv("GUARD");
    import_array();
    page = (size_t)sysconf(_SC_PAGESIZE);
    behind = !side || strcmp(side, "before");
    PyObject *capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    PyObject *old = capsule ? PyDataMem_SetHandler(capsule) : NULL;
    Py_XDECREF(capsule);
    if (!old) return NULL;
    Py_DECREF(old);
    return PyModule_Create(&module);
}
