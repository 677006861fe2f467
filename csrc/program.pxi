# Programs: calls that were recorded while faces made them, to be replayed without Python.

cdef enum:  # the arrays of rows that a program takes or gives
    X, TARGETS, WEIGHTS, OUTPUTS, SLOTS

cdef tuple slot_names = ("x", "targets", "weights", "outputs")

cdef int forks = 1  # 1 + those between the first process and this; a parent's threads are not here

cdef unsigned long forked_by = 0  # the one thread that a fork leaves


def _in_forked_child():
    global forks, forked_by
    forks += 1
    forked_by = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_in_forked_child)


cdef class Hold:
    """``with hold:`` lets one thread at a time train a model; another one gets RuntimeError.

    The thread that has the hold may take it again.  In a forked child the hold is free if another
    thread of the parent had it.  If the thread records a program of another model, as when a
    signal handler or a finalizer trains this one, nothing is recorded meanwhile.  (It is taken in
    C, so that no Ctrl-C comes between.)"""
    cdef unsigned long thread
    cdef int depth, taken_in  # taken_in: `forks` of the process that took it
    cdef void *outer          # the recorder of another model's program, or NULL

    def __enter__(self):
        if self.depth:
            self.check()
        if self.depth == 0:
            self.outer = NULL
            owner = None if recorder() == NULL else (<_Recorder>recorder()).owner
            if owner is not None and owner is not self:
                self.outer = recorder()
                set_recorder(NULL)
        self.thread, self.taken_in = PyThread_get_thread_ident(), forks
        self.depth += 1
        return self

    def check(self, str what="training"):
        """Raises RuntimeError, which begins with `what`, if another thread has the hold."""
        if self.depth and self.thread != PyThread_get_thread_ident():
            if self.taken_in == forks or self.thread == forked_by:
                raise RuntimeError(
                    f"{what}: another thread is training this model; train one model from one "
                    "thread at a time, or give each a copy.deepcopy(model)")
            self.depth = 0

    def __exit__(self, kind, value, traceback):
        self.depth -= 1
        if self.depth == 0 and self.outer != NULL:
            set_recorder(self.outer)


cdef class Program(_Recorder):
    """``with program:`` records the calls that the thread makes; `replay` runs them again.

    `feed` says where a replay takes its rows from and where its results go.  While recording,
    `take`, `give`, `take_rate` and `end_batch` make calls that use the feed.  One thread at a time
    may use a program."""
    cdef fnn_feed sources           # the feed
    cdef cnp.ndarray feed_memory    # `sources`, as memory that calls touch
    cdef tuple fed                  # the arrays that `sources` points to
    cdef void *outer                # what the thread recorded in before
    cdef ptrdiff_t batch            # how many rows a step takes, or 0
    cdef ptrdiff_t available        # how many rows the feed has
    cdef ptrdiff_t row_bytes[SLOTS] # the size of a row that was taken or given, or 0
    cdef ptrdiff_t losses           # how many losses the feed has room for
    cdef ptrdiff_t rates            # for how many steps the feed has rates
    cdef ptrdiff_t columns          # how many rates a step takes
    cdef cnp.ndarray taken, targets, given # a batch's x, targets and outputs
    cdef cnp.ndarray labels         # a copy of the labels that `point` took, which nobody changes
    cdef int runs_in                # `forks` of the process in which a thread runs it, or 0

    def __cinit__(self, cnp.ndarray hyper=None, Hold owner=None):
        """A fault in hyper ends a replay; owner is the Hold of the model, or None."""
        self.owner = owner
        cdef cnp.npy_intp size = sizeof(fnn_feed)
        self.feed_memory = cnp.PyArray_SimpleNewFromData(1, &size, cnp.NPY_UINT8, &self.sources)
        if hyper is not None:
            check_hyper(hyper)
            self.arrays.append(hyper)
            self.program.fault = <const double *>data(hyper) + <int>FNN_FAULT

    def __enter__(self):
        if self.program.count:
            raise RuntimeError("this program has been recorded; make another")
        self.outer = recorder()  # not NULL if a handler or a finalizer interrupts a recording
        set_recorder(<void *>self)
        return self

    def __exit__(self, kind, value, traceback):
        set_recorder(self.outer)
        if kind is None and fnn_schedule(&self.program) != 0:
            raise MemoryError("no memory for a program")

    cdef int check_idle(self) except -1:
        if self.runs_in == forks:
            raise RuntimeError("another thread is running this program")
        return 0

    cdef void *outside(self, int which, str name, cnp.ndarray x) except? NULL:
        """Where the rows of x begin, which are as those taken or given before; NULL for None.

        x is C-contiguous; it need not be aligned."""
        if x is None:
            if self.row_bytes[which] and which != OUTPUTS:
                raise ValueError(f"{name}: expected rows for the program to take, got None")
            return NULL
        if (not cnp.PyArray_IS_C_CONTIGUOUS(x) or cnp.PyArray_NDIM(x) == 0
                or cnp.PyArray_SIZE(x) == 0):
            raise ValueError(f"{name}: expected a C-contiguous array of rows, got {describe(x)}")
        cdef ptrdiff_t row = cnp.PyArray_NBYTES(x) // x.shape[0]
        if self.row_bytes[which] and self.row_bytes[which] != row:
            raise ValueError(f"{name}: expected rows of {self.row_bytes[which]} bytes, got {row}")
        return data(x)

    def feed(self, cnp.ndarray x, cnp.ndarray targets=None, cnp.ndarray weights=None, *,
             cnp.ndarray index=None, cnp.ndarray outputs=None, cnp.ndarray losses=None,
             cnp.ndarray rates=None):
        """Take rows from these arrays: all from the first on, or those that index (int64) lists.

        One batch after the other, outputs go to `outputs`, losses to `losses` (float64), and
        `rates` (float64) has a line for each step, of one number or more: see `take_rate`."""
        cdef fnn_feed *s = &self.sources
        cdef ptrdiff_t i, rows = min([len(a) for a in (x, targets, weights) if a is not None])
        cdef ptrdiff_t available = rows
        self.check_idle()
        self.available = 0 # until all has been checked
        s.x, s.targets = self.outside(X, "x", x), self.outside(TARGETS, "targets", targets)
        s.weights = self.outside(WEIGHTS, "weights", weights)
        s.outputs = self.outside(OUTPUTS, "outputs", outputs)
        s.index, s.losses, s.rates = NULL, NULL, NULL
        s.row = s.step = self.losses = self.rates = 0
        if index is not None:
            if not (cnp.PyArray_TYPE(index) == cnp.NPY_INT64 and cnp.PyArray_ISCARRAY_RO(index)):
                raise ValueError(f"index: expected contiguous int64, got {describe(index)}")
            s.index, available = <const int64_t *>data(index), cnp.PyArray_SIZE(index)
            for i in range(available):
                if not 0 <= s.index[i] < rows:
                    raise ValueError(f"index: expected integers in [0, {rows}), got {s.index[i]}")
        if outputs is not None:
            check_writable("outputs", outputs)
            available = min(available, outputs.shape[0])
        if losses is not None:
            check_doubles("losses", losses)
            s.losses, self.losses = <double *>data(losses), cnp.PyArray_SIZE(losses)
        if rates is not None:
            check_doubles("rates", rates)
            s.columns = 1 if cnp.PyArray_NDIM(rates) < 2 else rates.shape[1]
            if s.columns < max(1, self.columns):
                raise ValueError(
                    f"rates: expected {max(1, self.columns)} columns, got {describe(rates)}")
            s.rates, self.rates = <const double *>data(rates), cnp.PyArray_SIZE(rates) // s.columns
        self.fed, self.available = (x, targets, weights, outputs, index, losses, rates), available

    def replay(self, ptrdiff_t steps=1, Program last=None, ptrdiff_t rounds=1):
        """Run all calls `steps` times, then those of `last` once, if there is one, and all that
        `rounds` times or until a step meets a fault; how many steps were done."""
        if last is self or steps < 0 or rounds < 0:
            raise ValueError("replay: expected another program as last, and no negative numbers")
        self.check_left(steps * rounds)
        if last is not None:
            last.check_left(rounds)
        return self.run(steps, last, rounds)

    cdef int check_left(self, ptrdiff_t steps) except -1:
        """Raises ValueError unless the feed has what so many steps take and give."""
        cdef fnn_feed *s = &self.sources
        if self.batch and (self.available - s.row) // self.batch < steps:
            raise ValueError("steps: expected at most as many as rows are left for, "
                             f"{(self.available - s.row) // self.batch}, got {steps}")
        if s.losses != NULL and self.losses - s.step < steps:
            raise ValueError(f"losses: expected room for {steps} more, got {self.losses - s.step}")
        if s.rates != NULL and self.rates - s.step < steps:
            raise ValueError(f"rates: expected {steps} more, got {self.rates - s.step}")
        return 0

    cdef ptrdiff_t run(self, ptrdiff_t steps, Program last, ptrdiff_t rounds) except -1:
        cdef ptrdiff_t done
        cdef fnn_turn[2] turn
        cdef int turns = 1 if last is None else 2
        self.check_idle()
        turn[0].program, turn[0].steps = &self.program, steps
        if last is not None:
            last.check_idle()
            turn[1].program, turn[1].steps = &last.program, 1
            last.runs_in = forks
        self.runs_in = forks
        with nogil:
            done = fnn_replay(turn, turns, rounds)
        self.runs_in = 0
        if last is not None:
            last.runs_in = 0
        if done < 0:
            raise MemoryError("no memory for the threads' scratch space")
        return done

    def point(self, x, targets, largest):
        """`feed` for one batch without weights, if x and targets are arrays like those that were
        taken and the targets are valid: labels below the number of outputs, or numbers in
        [0, largest], or any if `largest` is None.  If not, returns False and does nothing."""
        cdef const int64_t *label
        cdef ptrdiff_t i, classes = self.given.shape[cnp.PyArray_NDIM(self.given) - 1]
        cdef int weights = WEIGHTS
        cdef cnp.ndarray y
        self.check_idle()
        if not (is_like(x, self.taken) and is_like(targets, self.targets)):
            return False
        if self.row_bytes[weights]:
            return False
        y = targets
        if cnp.PyArray_TYPE(y) == cnp.NPY_INT64:
            if self.labels is None:
                self.labels = y.copy()
            memcpy(data(self.labels), data(y), cnp.PyArray_NBYTES(y))
            y, label = self.labels, <const int64_t *>data(self.labels)
            for i in range(cnp.PyArray_SIZE(y)):
                if not 0 <= label[i] < classes:
                    return False
        elif largest is not None and first_outside(y, 0.0, largest) >= 0:
            return False
        self.sources.x, self.sources.targets = data(x), data(y)
        self.sources.index, self.sources.outputs, self.sources.losses = NULL, NULL, NULL
        self.sources.rates = NULL
        self.sources.row = self.sources.step = self.losses = self.rates = 0
        self.available, self.fed = self.batch, (x, y, None, None, None, None, None)
        return True

    def predict(self, value, cnp.ndarray out=None):
        """The outputs for one batch, in `out` or in an array of the program's; None, and nothing is
        done, if value is not like the batch that was taken.  Do not use `replay` afterwards without
        `feed`: its arrays are forgotten."""
        if not is_like(value, self.taken):
            return None
        if out is not None:
            check_like("out", out, "the outputs", self.given)
            check_writable("out", out)
            if overlap(value, out):
                value = value.copy()
        self.check_idle()
        self.sources.x = data(value)
        self.sources.outputs = NULL if out is None else data(out)
        self.run(1, None, 1)
        return self.given if out is None else out

    def phases(self):
        """For each phase the number of calls that run alone, and (calls, units) of each chain."""
        cdef const fnn_phase *phase
        cdef int i, j
        result = []
        for i in range(self.program.phases):
            phase = &self.program.phase[i]
            result.append((phase.alones, [(phase.chain[j].count, phase.chain[j].units)
                                          for j in range(phase.chains)]))
        return result

    cdef void **slot(self, int which) noexcept:
        if which == X:
            return <void **>&self.sources.x
        if which == TARGETS:
            return <void **>&self.sources.targets
        if which == WEIGHTS:
            return <void **>&self.sources.weights
        return &self.sources.outputs

    cdef int carry(self, int which, fnn_kernel *kernel, cnp.ndarray inside,
                   bint outwards) except -1:
        """Copies a batch's rows from the feed to `inside`, or, outwards, from there to the feed."""
        cdef fnn_call call
        cdef fnn_rows *p = &call.arguments.rows
        cdef ptrdiff_t rows = inside.shape[0], row = cnp.PyArray_SIZE(inside) // rows
        if (self.batch or rows) != rows or rows > self.available - self.sources.row:
            raise ValueError(f"rows: expected {f'{self.batch} as before, ' if self.batch else ''}"
                             f"at most {self.available - self.sources.row}, got {rows}")
        start(&call, kernel, rows, copied * cnp.PyArray_SIZE(inside))
        p.feed = <fnn_feed *>reads(&call, self.feed_memory)
        p.outside = self.slot(which)
        p.inside = writes(&call, inside, row) if not outwards else <void *>reads(&call, inside, row)
        p.row_bytes = row * cnp.PyArray_ITEMSIZE(inside)
        self.row_bytes[which], self.batch = p.row_bytes, rows
        return execute(&call)

    def take(self, str name, ptrdiff_t rows):
        """The next rows of x, targets or weights of the feed, in a new array."""
        cdef int which = slot_names.index(name)
        if self.fed is None or which == OUTPUTS or self.fed[which] is None or rows < 1:
            raise ValueError(
                f"take: expected at least one row of what is fed, got {rows} of {name}")
        cdef cnp.ndarray outside = self.fed[which]
        cdef int i, ndim = cnp.PyArray_NDIM(outside)
        cdef cnp.npy_intp[32] shape
        for i in range(ndim):
            shape[i] = outside.shape[i] if i else rows
        cdef cnp.ndarray inside = self.new_array(ndim, shape, cnp.PyArray_TYPE(outside))
        self.carry(which, fnn_table(active_isa, False).take_rows, inside, False)
        if which == X:
            self.taken = inside
        elif which == TARGETS:
            self.targets = inside
        return inside

    def give(self, cnp.ndarray outputs not None):
        """Copy a batch's outputs to those of the feed, if it has some."""
        cdef cnp.ndarray outside = None if self.fed is None else self.fed[<int>OUTPUTS]
        if outside is not None and outside.dtype != outputs.dtype:
            raise ValueError(f"outputs: expected {outputs.dtype}, got {describe(outside)}")
        self.row_bytes[<int>OUTPUTS] = cnp.PyArray_NBYTES(outputs) // outputs.shape[0]
        self.outside(OUTPUTS, "outputs", outside)
        self.carry(OUTPUTS, fnn_table(active_isa, False).give_rows, outputs, True)
        self.given = outputs

    def take_rate(self, cnp.ndarray numbers not None, ptrdiff_t index=0, ptrdiff_t column=0):
        """Set numbers[index] to what the feed's rates have for the step in that column, if there
        are some and it is not NaN."""
        check_doubles("numbers", numbers)
        if not 0 <= index < cnp.PyArray_SIZE(numbers):
            raise ValueError(f"index: expected one of {describe(numbers)}, got {index}")
        if column < 0 or self.sources.rates != NULL and column >= self.sources.columns:
            raise ValueError(f"column: expected one of {self.sources.columns}, got {column}")
        if self.sources.rates != NULL and self.sources.step >= self.rates:
            raise ValueError(
                f"rates: expected more than the {self.sources.step} used, got {self.rates}")
        cdef fnn_call call
        start(&call, fnn_table(active_isa, False).take_rate, 1, 10.0)
        call.arguments.batch.feed = <fnn_feed *>reads(&call, self.feed_memory)
        call.arguments.batch.number = <double *>writes(&call, numbers) + index
        call.arguments.batch.column = column
        self.columns = max(self.columns, column + 1)
        execute(&call)

    def end_batch(self, cnp.ndarray value=None):
        """The next step takes the next rows; value (float64) is the loss that the feed gets."""
        cdef fnn_call call
        cdef fnn_batch *p = &call.arguments.batch
        check_doubles("value", value)
        if self.sources.losses != NULL and self.sources.step >= self.losses:
            raise ValueError(
                f"losses: expected room for more than {self.sources.step}, got {self.losses}")
        start(&call, fnn_table(active_isa, False).end_batch, 1, 10.0)
        p.feed, p.rows = <fnn_feed *>writes(&call, self.feed_memory), self.batch
        p.value = <double *>reads(&call, value)
        execute(&call)


def check_value(cnp.ndarray value not None, cnp.ndarray hyper not None, /):
    """Makes a loss that is infinite or NaN a fault in hyper, which ends a replay."""
    check_doubles("value", value)
    check_hyper(hyper)
    cdef fnn_call call
    start(&call, fnn_table(active_isa, False).check_value, 1, 10.0)
    call.arguments.batch.value = <double *>reads(&call, value)
    call.arguments.batch.hyper = <double *>writes(&call, hyper)
    execute(&call)
