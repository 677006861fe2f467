"""Sequential: the model that users make, train, evaluate and save; and how files become models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastnn import derivatives
from fastnn.derivatives import Derivatives
from fastnn.files import checkpoint
from fastnn.network import Network
from fastnn.predictor import Predictor
from fastnn.summary import table
from fastnn.support import checks
from fastnn.training import loop
from fastnn.training.recording import Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from fastnn.history import History
    from fastnn.losses import Loss
    from fastnn.measures import Metric
    from fastnn.optimizers import Optimizer
    from fastnn.training.callbacks import Callback
    from fastnn.training.scheduled import AnySchedule
    from fastnn.weight_averages import WeightAverage


class Sequential(Network):
    """Layers one after the other: each takes what the one before gives.

    `seed` (0 .. 2^64 - 1) decides how the parameters begin and what dropout drops; `dtype` is
    float32 or float64; `l1` and `l2` are the λ of the penalties for layers that state none.

    ``compute="bfloat16"`` makes the products of dense layers of a float32 model up to twice as fast
    where the CPU has AVX512_BF16 (see `build_info`), forward and backward, in training and after
    it.  What is multiplied is rounded to bfloat16 first: to the nearest number of 8 bits, of two
    the even one, and to 0 below 2^-56, 1.4e-17.  Sums, parameters, activations, norms, losses and
    convolutions stay float32, and so do the optimizer's numbers.  The bits are those of float32
    products of the rounded numbers, on any number of threads and every instruction set.  It pays
    for wide layers and large batches; without AVX512_BF16 it takes up to 1.2 times as long as
    float32.  None, the default, computes in `dtype`.

    ``layers`` is a tuple; ``parameters``, ``gradients`` and ``state`` (running statistics) map
    names such as ``"0.weight"`` to arrays, views of the vectors ``flat_parameters`` and
    ``flat_gradients``, in which each begins at a multiple of 64 bytes and the gaps are 0.
    Write into these arrays: nothing can replace them.  `copy`, `pickle` and `copy.deepcopy` work.

    A `Sequential` among the layers becomes a `Block` of copies of its layers.  ``len(model)``,
    iteration and ``model[2]`` are about the model's own layers, ``model[:4]`` is a new model of
    copies of them, with what they have learnt.

    ``scaler`` (a `Standardizer` or `TableEncoder` after `fit`, or None), ``target_scaler`` (a
    `Standardizer`) and ``classes`` (names or integers, kept as a tuple, or None) are for your own
    use: `fit` and `predict` do not apply them; files, copies and pickles have them.

    Evaluation changes nothing, so that any number of threads may do it at once.  The forward,
    backward and update of one training step belong to one thread: RuntimeError else.

    Raises ValueError where the layers' sizes do not follow one another, TypeError or ValueError
    for what is no layer and for settings out of their range.

    >>> from fastnn import Dense, ReLU, Sequential
    >>> model = Sequential(Dense(4, 8), ReLU(), Dense(8, 2), seed=0)
    >>> model.predict(np.zeros((3, 4))).shape
    (3, 2)
    >>> {name: array.shape for name, array in model.parameters.items()}
    {'0.weight': (4, 8), '0.bias': (8,), '2.weight': (8, 2), '2.bias': (2,)}
    >>> Sequential(Dense(4, 8), Dense(9, 2))
    Traceback (most recent call last):
    ValueError: layer 1, Dense(9, 2), takes 9 features, but layer 0, Dense(4, 8), gives 8
    """

    __slots__ = ("_derivatives", "_handover")

    def _set_up(self, dtype: np.dtype[Any], passes: int) -> None:
        super()._set_up(dtype, passes)
        self._handover, self._derivatives = Handover(), Derivatives()

    def fit(
        self,
        X: ArrayLike | Iterable[Sequence[ArrayLike]],
        y: ArrayLike | None = None,
        *,
        loss: Loss,
        optimizer: Optimizer,
        epochs: int = 10,
        batch_size: int = 32,
        validation_data: tuple[ArrayLike, ...] | Iterable[Sequence[ArrayLike]] | None = None,
        validation_split: float | None = None,
        validation_every: int = 1,
        steps_per_epoch: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        metrics: Sequence[str | Metric] | None = None,
        schedule: AnySchedule | None = None,
        accumulate: int = 1,
        average: WeightAverage | None = None,
        callbacks: Iterable[Callback] = (),
        resume: str | PathLike[str] | None = None,
        progress: bool = True,
        distributed: Any = None,
    ) -> History:
        """Train on the rows of `X` and `y`; returns the `History`.

        Ctrl-C ends the training and returns the history of the finished epochs, with
        ``history.interrupted`` set; the model keeps what it has learnt.  It is looked for between
        steps and between parts of a validation, not within a step, a metric, a callback or an
        iterable that is waited for.  Pressed again within a second, in the same fit or in the next
        one of a loop, it is a KeyboardInterrupt.

        Parameters
        ----------
        X : (n, ...), as the model takes it
            In float32 and C-contiguous it is used where it is: a `numpy.memmap` stays on disk.
            Without `y` it is an iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``, gone
            through once an epoch; then `batch_size`, `shuffle` and `seed` mean nothing.
        y : (n,) or (n, outputs), as the loss takes it
            With outputs at every position, (n, length) or (n, length, outputs), and so for images.
        loss : a loss of fastnn's, or any callable like them (see `Loss`)
        optimizer : such as ``fastnn.Adam()``
        epochs : how often all rows are gone through
        batch_size : rows in a step
            An epoch's last batch may be shorter.  Where it would be a single row (with a single
            position), on which batch norm cannot train, that row joins the batch before.  In
            batches of your own, a single row joins the next batch, and is left out at the end.
        validation_data : ``(X, y)`` or ``(X, y, sample_weight)``, evaluated after every epoch
            Or an iterable of such batches, as a list of tuples, gone through at each validation:
            so many as it has a ``len()``, else to its end, for which it must have one.  What is
            measured is the same as of arrays; outputs and targets are kept until then, X is not.
        validation_split : a part of the rows in (0, 1), held out and evaluated instead
            Where the targets are classes, of each class the same part: the rows are those of
            ``stratified_split(y, validation_split, seed)``, else those of a split of equal labels.
            Their `sample_weight` goes along, `class_weight` is of training alone.  The rows are
            copied.
        validation_every : so many epochs are from one validation to the next
            The last of `epochs` is validated too, and one that a callback stops at a batch.  The
            others have NaN in the history, which those who monitor pass over.
        steps_per_epoch : how many batches of an iterable `X` are an epoch
            One pass over `X` goes on over the epochs, and so it may be endless; where it ends, the
            next one begins.  After a `resume` the batches of the epochs before are taken and
            dropped.
        shuffle : whether each epoch has an order of the rows of its own
        drop_last : whether a last shorter batch is left out
        seed : what the orders follow from, so that a second `fit` repeats those of the first
        sample_weight : (n,), not negative; a row of weight 0 takes no part
            With outputs at every position, also a number for each, (n, length) and so on.
        class_weight : a dict by label (1 for labels that it lacks) or ``"balanced"``
            It multiplies the weights of rows, or positions, in training: not in metrics, nor in the
            validation, where `class_weight` of `SoftmaxCrossEntropy` counts as well.
            It moves probabilities: the model learns p w / Σ p w, for p the probabilities in the
            data and w the weights.  Divided by w, and by their sum then, they are p again.
        metrics : a list of names (``"accuracy"``, ``"r2"``; see `fastnn.metrics`) or functions
            Functions are ``metric(outputs, targets)`` and get targets (n,) as (n, 1) where the
            outputs are so.  Those whose first parameter is ``y_true`` get the targets first:
            scikit-learn's with the answers or probabilities that they want, others with the
            outputs as they are.  Those with a parameter ``sample_weight`` get the weights.  By
            default the accuracy for losses that classify, else none.
        schedule : a factor of the optimizer's learning rate for every step
            See `fastnn.schedules`.  A dict such as ``{"learning_rate": fastnn.CosLog(),
            "weight_decay": fastnn.FlatCosine(), "dropout": fastnn.FlatCosine()}`` has factors of
            the weight decay, too, and of the rate of every `Dropout`.  After each epoch all are as
            before.  With batches of your own, `X` needs a ``len()``.
        accumulate : how many batches together make an update (see `TrainStep`)
        average : an `ExponentialMovingAverage` or a `StochasticWeightAverage` of the weights
            Training goes on from the weights as they are; between the epochs, for validation and
            callbacks, and at the end the model has the averaged ones, as soon as there are some.
            A batch norm's running statistics are then computed anew (`update_batch_norm`): a
            forward pass over all rows, after each epoch if there are validation data or callbacks,
            else at the end.  With batches of your own they are left as they are.  Each `fit`
            begins the average anew, unless it resumes.
        callbacks : a list of objects that are told about the epochs (see `Callback`)
        resume : the file of a checkpoint to go on from (see `ModelCheckpoint`)
            Training goes on to `epochs` in all, with the same bits as if it had never stopped.
            Model, optimizer, order and history become those of the file, with all that may be set
            at any time, such as learning rates, their factors, rates of dropout and what is frozen;
            to go on with others, set them in `on_fit_begin` of a callback.  The other arguments
            must be as before.  Of those that the file knows, all that differ are listed; it does
            not know data, functions and metrics' own settings.  Batches of your own must come in
            the same order, and a schedule that follows `epochs`, as `Cosine` does, needs the same
            `epochs`.
        progress : whether to show a bar on a terminal, a line per epoch elsewhere
        distributed : a `fastnn.mpi.World`, to train on several processes with the bits of one whose
            `accumulate` is that many times larger.  All give the same arguments and arrays, but
            each an iterable `X` with its own batches alone.  Callbacks are those of rank 0, but for
            `EarlyStopping` and `ReduceOnPlateau`, which all have; a round of all processes is what
            a batch is to their hooks.

        Raises
        ------
        TypeError, ValueError
            Before the first step: for arrays, labels or settings that make no sense, naming them;
            for a checkpoint of another architecture, rule, metrics, number of rows or other
            arguments, listing all.
        OSError
            If the checkpoint cannot be read.
        RuntimeError
            If the model is being trained by another thread.
        FloatingPointError
            If training diverges, saying at which epoch, step and learning rate: the model keeps
            its last finite parameters.

        An error that ends the training, be it in a callback, has the history so far as its
        attribute `history`, and says in a note which callback or schedule raised it.

        Warns of a model that ends in the sigmoid or softmax that its loss applies itself.

        Examples
        --------
        >>> from fastnn import SGD, Dense, MeanSquaredError, Sequential
        >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
        >>> history = model.fit(
        ...     [[1.0], [2.0]], [2.0, 4.0], loss=MeanSquaredError(), optimizer=SGD(0.1),
        ...     epochs=9, progress=False,
        ... )
        >>> len(history.loss), history.loss[-1] < 0.1
        (9, True)
        """
        return loop.fit(
            self,
            self._handover,
            X,
            y,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            validation_split=validation_split,
            validation_every=validation_every,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            drop_last=drop_last,
            seed=seed,
            sample_weight=sample_weight,
            class_weight=class_weight,
            metrics=metrics,
            schedule=schedule,
            accumulate=accumulate,
            average=average,
            callbacks=callbacks,
            resume_from=resume,
            show_progress=progress,
            distributed=distributed,
        )

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        loss: Loss,
        metrics: Sequence[str | Metric] | None = None,
        sample_weight: ArrayLike | None = None,
        batch_size: int = 1024,
    ) -> dict[str, float]:
        """``{"loss": ..., "accuracy": ...}`` of the model's predictions, without penalties.

        Shapes, weights and `metrics` are as in `fit`; so are the errors.

        >>> from fastnn import Dense, MeanSquaredError, Sequential
        >>> model = Sequential(Dense(1, 1, weight_init="zeros"))
        >>> model.evaluate([[1.0], [2.0]], [1.0, 2.0], loss=MeanSquaredError())
        {'loss': 2.5}
        """
        return loop.evaluate(self, X, y, loss, metrics, sample_weight, batch_size)

    def predictor(self, batch_size: int = 1, weights: str | None = None) -> Predictor:
        """Inference made ready for many calls on `batch_size` rows each, with `weights` "bfloat16"
        or "float16" from half as much memory: see `Predictor`.

        >>> from fastnn import Dense, Sequential
        >>> predictor = Sequential(Dense(3, 2)).predictor(batch_size=5)
        >>> predictor(np.ones((5, 3))).shape
        (5, 2)
        """
        return Predictor(self, batch_size, weights)

    def input_gradient(
        self, x: ArrayLike, gradient: ArrayLike | int | Callable[[NDArray[Any]], ArrayLike]
    ) -> NDArray[Any]:
        """The gradient by the inputs, in evaluation: of an output, or of any loss.

        `gradient` is that of the loss by the outputs, or a function ``gradient(outputs)`` that
        returns it, or the number of an output, which stands for 1 there and 0 elsewhere.

        Shapes: `x` as in `forward`, `gradient` as the outputs, the result as `x`, of the model's
        type; each row has its own.  Dropout and running statistics are those of evaluation, and no
        parameter, gradient or statistic of the model changes.  The first call on a shape is
        recorded, the next ones are replayed; any number of threads may call it at once, and while
        others evaluate.  The outputs that a function gets are overwritten later.

        Layers of your own run forward in training and backward, as one thread's training step,
        after which gradients and state are put back.

        Raises as `forward` does, ValueError or TypeError for another gradient, RuntimeError for
        inputs that are codes (see `Embedding`).

        >>> from fastnn import Dense, MeanSquaredError, Sequential
        >>> model = Sequential(Dense(2, 1, weight_init="zeros"), dtype="float64")
        >>> model.parameters["0.weight"][...] = [[3.0], [4.0]]
        >>> model.input_gradient(np.ones((2, 2)), 0)
        array([[3., 4.],
               [3., 4.]])
        >>> loss, targets = MeanSquaredError(), np.zeros((2, 1))
        >>> model.input_gradient(np.ones((2, 2)), lambda outputs: loss(outputs, targets)[1])
        array([[21., 28.],
               [21., 28.]])
        """
        return derivatives.input_gradient(self, self._derivatives, x, gradient)

    def jacobian(self, x: ArrayLike) -> NDArray[Any]:
        """Each output's gradient by the inputs of its row, in evaluation.

        Shapes: `x` (batch, ..., in_features), outputs (batch, ..., out_features), the result
        (batch, ..., out_features, ..., in_features), where each ``...`` is the one above.  All else
        is as in `input_gradient`.

        >>> from fastnn import Dense, Sequential
        >>> model = Sequential(Dense(3, 2), dtype="float64", seed=0)
        >>> J = model.jacobian(np.ones((5, 3)))
        >>> J.shape, bool((J[4] == model.parameters["0.weight"].T).all())
        ((5, 2, 3), True)
        """
        return derivatives.jacobian(self, self._derivatives, x)

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """A table of the layers, their outputs' shapes and how many parameters they have.

        It says how many parameters are trainable if some are not.
        `input_shape`, of a row, such as (28, 28, 1), tells what is unknown before data come.
        Layers within another stand below it; its count is that of all of them.
        Raises ValueError or TypeError for one that the model does not take.

        >>> from fastnn import Dense, ReLU, Sequential
        >>> print(Sequential(Dense(64, 128), ReLU(), Dense(128, 10)).summary())
           layer           output        parameters
        0  Dense(64, 128)  (batch, 128)       8,320
        1  ReLU()          (batch, 128)           0
        2  Dense(128, 10)  (batch, 10)        1,290
        9,610 parameters, 38.4 kB in float32
        """
        if input_shape is not None:
            input_shape = checks.shape(input_shape, "input_shape")
            self._chain.check_input((1, *input_shape), "input_shape")
        return table(self, input_shape)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file that `fastnn.load` reads: see `fastnn.save`."""
        checkpoint.save(self, path)


def load(path: str | PathLike[str]) -> Sequential:
    """The model of a file that `save` or `save_checkpoint` wrote, with the same bits.

    Raises OSError where the file cannot be read, and ValueError, which names it, for one that is
    damaged, not fastnn's, or of a newer version.  A file that somebody made up can do no worse.

    >>> import fastnn
    >>> fastnn.load("missing.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.safetensors'
    """
    return checkpoint.read(path, Sequential)[0]


@dataclass
class Checkpoint:
    """What `load_checkpoint` gives: a training as it was, to go on with.

    `optimizer` belongs to `model`, if it had stepped it.  `order` is for the `load_state_dict` of
    a `batches` object; `order`, `history` and `average` are None where none was saved.

    >>> import fastnn
    >>> model = fastnn.Sequential(fastnn.Dense(3, 2))
    >>> Checkpoint(model, fastnn.SGD(0.1)).order is None
    True
    """

    model: Sequential
    optimizer: Optimizer
    order: dict[str, int] | None = None
    history: History | None = None
    average: WeightAverage | None = None


def load_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """The training of a file that `save_checkpoint` wrote.

    Raises as `load` does, and ValueError for a file with a model alone.  For an example see
    `save_checkpoint`.

    >>> import fastnn
    >>> fastnn.load_checkpoint("missing.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.safetensors'
    """
    content = checkpoint.read_training(path, Sequential)
    return Checkpoint(*content[:4], average=content[4].average)
