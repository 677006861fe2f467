"""Random trainings as plain data, which can be printed, repeated and made smaller: what layers,
targets and arguments of `fit` there are, and how a description becomes objects."""

import numpy as np

from fastnn import (
    SGD,
    Adam,
    AdamW,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Block,
    Columns,
    Conv1D,
    Conv2D,
    Cosine,
    CosLog,
    Dense,
    Dropout,
    Embedding,
    ExponentialDecay,
    ExponentialMovingAverage,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Heads,
    Hinge,
    Huber,
    LayerNorm,
    MaxPool1D,
    MaxPool2D,
    MeanAbsoluteError,
    MeanSquaredError,
    Momentum,
    Nesterov,
    OneCycle,
    ParametricActivation,
    PeriodicEmbedding,
    Poisson,
    Quantile,
    Residual,
    RMSprop,
    Scale,
    Sequential,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    StepDecay,
    StochasticWeightAverage,
    layers,
)

OUTPUTS = 3
CODES = 20
WIDTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 130, 260)
ACTIVATIONS = tuple(layers.activations.ACTIVATIONS.values())

# name -> its layer, for rows of n channels, of two drawn numbers, a width and a choice; `dense`
# makes a layer that mixes channels
ANY = {
    "dense": lambda n, w, c, dense: dense(n, w, activation=ACTIVATIONS[c % len(ACTIVATIONS)]()),
    "dense without bias": lambda n, w, c, dense: dense(n, w, bias=False),
    "dense, orthogonal": lambda n, w, c, dense: dense(n, w, weight_init="orthogonal"),
    "batch norm": lambda n, w, c, dense: BatchNorm(n, momentum=(0.1, 0.5)[c % 2]),
    "layer norm": lambda n, w, c, dense: LayerNorm(n),
    "dropout": lambda n, w, c, dense: Dropout((0.0, 0.1, 0.5)[c % 3]),
    "activation": lambda n, w, c, dense: ACTIVATIONS[c % len(ACTIVATIONS)](),
    "parametric": lambda n, w, c, dense: ParametricActivation(n, ("selu", "mish", "relu")[c % 3]),
    "scale": lambda n, w, c, dense: Scale(n),
    "residual": lambda n, w, c, dense: Residual(dense(n, w), BatchNorm(w), dense(w, n)),
    "residual, shortcut": lambda n, w, c, dense: Residual(
        dense(n, w, activation="gelu"), shortcut=dense(n, w)
    ),
    "residual, dropout": lambda n, w, c, dense: Residual(LayerNorm(n), Dropout(0.3)),
    "block": lambda n, w, c, dense: Block(dense(n, w), Dropout(0.2), Block(LayerNorm(w))),
    "heads": lambda n, w, c, dense: Heads(
        dense(n, w), Block(dense(n, 4, activation="tanh"), Dropout(0.1))
    ),
}  # fmt: skip
OF_IMAGES = {
    "conv": lambda n, w, c, dense: Conv2D(
        n, min(w, 40), (1, 2, 3)[c % 3], padding="same", stride=1 + c // 3 % 2,
        activation=(None, "relu", "gelu")[c // 6 % 3],
    ),
    "depthwise": lambda n, w, c, dense: Conv2D(n, n, 3, padding=1, groups=n),
    "max pool": lambda n, w, c, dense: MaxPool2D(
        (2, 3)[c % 2], stride=1 + c // 2 % 2, padding="same"
    ),
    "average pool": lambda n, w, c, dense: AvgPool2D(2, stride=1 + c % 2, padding="same"),
    "residual conv": lambda n, w, c, dense: Residual(Conv2D(n, n, 3, padding="same"), BatchNorm(n)),
}  # fmt: skip
OF_SEQUENCES = {
    "conv": lambda n, w, c, dense: Conv1D(
        n, min(w, 60), (1, 3, 4)[c % 3], padding="same", stride=1 + c // 3 % 2
    ),
    "dilated": lambda n, w, c, dense: Conv1D(n, min(w, 60), 3, padding=(4, 0), dilation=2),
    "depthwise": lambda n, w, c, dense: Conv1D(n, n, 3, padding=1, groups=n),
    "max pool": lambda n, w, c, dense: MaxPool1D(2, stride=1 + c % 2, padding="same"),
    "average pool": lambda n, w, c, dense: AvgPool1D(3, stride=1 + c % 2, padding="same"),
    "residual conv": lambda n, w, c, dense: Residual(Conv1D(n, n, 3, padding="same"), LayerNorm(n)),
}  # fmt: skip

# dimensions of a row -> what mixes its channels
DENSE = {
    1: Dense,
    2: lambda n, w, **o: Conv1D(n, w, 1, **o),
    3: lambda n, w, **o: Conv2D(n, w, 1, **o),
}

# kind of rows -> their shape, and the layers that they may go through beside ANY
KINDS = {
    "features": ((13,), {}),
    "wide features": ((300,), {}),
    "table": ((7,), {}),  # 3 numbers, 2 others and 2 codes
    "images": ((7, 8, 3), OF_IMAGES),
    "sequences": ((12, 4), OF_SEQUENCES),
}
ENDS = {
    3: {"flatten": [Flatten], "mean": [GlobalAvgPool2D], "max": [GlobalMaxPool2D], "positions": []},
    2: {"flatten": [Flatten], "mean": [GlobalAvgPool1D], "max": [GlobalMaxPool1D], "positions": []},
}

# name -> (loss, what its targets are)
LOSSES = {
    "softmax": (SoftmaxCrossEntropy, "labels"),
    "softmax, smoothed": (lambda: SoftmaxCrossEntropy(label_smoothing=0.1), "labels"),
    "softmax, weighted": (lambda: SoftmaxCrossEntropy(class_weight=[1, 2, 0.5]), "labels"),
    "softmax, masked": (lambda: SoftmaxCrossEntropy(ignore_index=-1), "masked"),
    "hinge": (Hinge, "labels"),
    "sigmoid": (lambda: SigmoidCrossEntropy(pos_weight=2.0), "bits"),
    "squared": (MeanSquaredError, "values"),
    "absolute": (MeanAbsoluteError, "values"),
    "huber": (Huber, "values"),
    "quantile": (lambda: Quantile([0.1, 0.5, 0.9]), "values"),
    "poisson": (Poisson, "bits"),
}
OPTIMIZERS = {
    "sgd": lambda **o: SGD(0.02, **o),
    "momentum": lambda **o: Momentum(0.005, **o),
    "nesterov": lambda **o: Nesterov(0.005, **o),
    "rmsprop": lambda **o: RMSprop(0.002, **o),
    "rmsprop, corrected": lambda **o: RMSprop(0.002, bias_correction=True, **o),
    "adam": lambda **o: Adam(0.005, **o),
    "adamw": lambda **o: AdamW(0.005, weight_decay=0.05, **o),
    "adamw, factors": lambda **o: AdamW(
        0.005, learning_rate_factors={"*.bias": 0.3}, weight_decay_factors={"*.bias": 0.0}, **o
    ),
}
SCHEDULES = {
    "cosine": lambda: Cosine(warmup=1), "one cycle": OneCycle, "cos log": CosLog,
    "step": lambda: StepDecay(1, factor=0.5), "exponential": lambda: ExponentialDecay(0.7),
}  # fmt: skip
AVERAGES = {
    "moving": lambda: ExponentialMovingAverage(0.9),
    "of epochs": lambda: StochasticWeightAverage(start_epoch=1),
}

# what of a description may be left out, and how often it is drawn
OPTIONS = {
    "clip_norm": (0.2, lambda rng: 0.5), "clip_value": (0.2, lambda rng: 0.05),
    "l1": (0.2, lambda rng: 0.01), "l2": (0.3, lambda rng: 0.1),
    "accumulate": (0.3, lambda rng: int(rng.integers(2, 5))),
    "average": (0.3, lambda rng: str(rng.choice([*AVERAGES]))),
    "schedule": (0.3, lambda rng: str(rng.choice([*SCHEDULES]))),
    "sample_weight": (0.3, lambda rng: True), "class_weight": (0.2, lambda rng: True),
    "drop_last": (0.2, lambda rng: True), "validation": (0.3, lambda rng: True),
    "frozen": (0.3, lambda rng: int(rng.integers(100))),
    "compute": (0.3, lambda rng: "bfloat16"),
}  # fmt: skip


def draw(seed):
    """A description of a training: names, numbers and lists alone."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice([*KINDS]))
    shape, own = KINDS[kind]
    names = [*ANY, *own, *own]  # an image's own layers twice as often
    chain = []
    for _ in range(rng.integers(1, 7)):
        width = int(rng.choice(WIDTHS if len(shape) == 1 else WIDTHS[:10]))
        chain.append([str(rng.choice(names)), width, int(rng.integers(1000))])
    rows = int(rng.choice([5, 33, 70, 200, 300] if len(shape) == 1 else [5, 17, 40]))
    return {
        "seed": seed, "kind": kind, "layers": chain,
        "end": str(rng.choice([*ENDS[len(shape)]])) if len(shape) > 1 else "flatten",
        "dtype": str(rng.choice(["float32", "float32", "float64"])),
        "loss": str(rng.choice([*LOSSES])), "optimizer": str(rng.choice([*OPTIMIZERS])),
        "rows": rows, "batch_size": int(rng.choice([1, 4, 7, 16, 64, 128])),
        "epochs": int(rng.integers(1, 4)),
        **{name: make(rng) for name, (chance, make) in OPTIONS.items() if rng.random() < chance},
    }  # fmt: skip


def network(its):
    """The model of a description."""
    shape, own = KINDS[its["kind"]]
    row, chain = shape, []

    def add(layer):
        nonlocal row
        chain.append(layer)
        row = layer.output_shape(row)

    if its["kind"] == "table":
        codes = Block(Embedding(CODES, 4), Flatten())
        add(Columns((3, PeriodicEmbedding(3, 5)), (2, None), (2, codes)))
    for name, width, choice in its["layers"]:
        add({**ANY, **own}[name](row[-1], width, choice, DENSE[len(row)]))
    for kind in ENDS[len(row)][its["end"]] if len(row) > 1 else []:
        add(kind())
    add(DENSE[len(row)](row[-1], OUTPUTS))
    given = {name: its[name] for name in ("l1", "l2", "compute") if name in its}
    if its["dtype"] == "float64":
        given["compute"] = None
    model = Sequential(*chain, seed=its["seed"], dtype=its["dtype"], **given)
    if "frozen" in its and len(chain) > 1:  # the last one is always trained
        model.layers[its["frozen"] % (len(chain) - 1)].trainable = False
    return model


def data(its, model):
    """Rows, targets and weights."""
    shape, _ = KINDS[its["kind"]]
    rng, n = np.random.default_rng([its["seed"], 1]), its["rows"]
    X = rng.standard_normal((n, *shape)).astype(its["dtype"])
    if its["kind"] == "table":
        X[:, -2:] = rng.integers(0, CODES, (n, 2))
    leading = (n, *model.output_shape(shape)[:-1])
    values = rng.standard_normal((*leading, OUTPUTS))
    labels = values.argmax(axis=-1)
    y = {
        "labels": labels, "masked": np.where(rng.random(leading) < 0.3, -1, labels),
        "bits": (values > 0).astype(its["dtype"]), "values": values.astype(its["dtype"]),
    }[LOSSES[its["loss"]][1]]  # fmt: skip
    return X, y, rng.integers(0, 3, n).astype(its["dtype"])


def drops_last(its):
    return "drop_last" in its and its["rows"] >= its["batch_size"]


def fit_arguments(its, X, y, weight):
    """What `fit` is given besides rows, targets, loss and optimizer."""
    given = {
        "epochs": its["epochs"], "batch_size": its["batch_size"], "seed": its["seed"],
        "accumulate": its.get("accumulate", 1), "progress": False, "drop_last": drops_last(its),
    }  # fmt: skip
    if "schedule" in its:
        given["schedule"] = SCHEDULES[its["schedule"]]()
    if "average" in its:
        given["average"] = AVERAGES[its["average"]]()
    if "sample_weight" in its:
        given["sample_weight"] = weight
    if "class_weight" in its and its["loss"] in ("softmax", "hinge") and y.ndim == 1:
        given["class_weight"] = {0: 0.5, 1: 2.0, 2: 1.0}
    if "validation" in its:
        given["validation_data"] = (X[:9], y[:9])
    return given


def loss_of(its):
    return LOSSES[its["loss"]][0]()


def optimizer_of(its):
    clips = {name: its[name] for name in ("clip_norm", "clip_value") if name in its}
    return OPTIMIZERS[its["optimizer"]](**clips)


def smaller(its):
    """Descriptions that are a little simpler, the largest steps first."""
    for i in range(len(its["layers"])):
        yield {**its, "layers": its["layers"][:i] + its["layers"][i + 1 :]}
    for name in OPTIONS:
        if name in its:
            yield {key: value for key, value in its.items() if key != name}
    if its["epochs"] > 1:
        yield {**its, "epochs": 1}
    for name in ("rows", "batch_size"):
        if its[name] > 1:
            yield {**its, name: its[name] // 2}
            yield {**its, name: its[name] - 1}
    for i, (name, width, choice) in enumerate(its["layers"]):
        for w, c in ((width // 2, choice), (width, 0)):
            if w >= 1 and (w, c) != (width, choice):
                yield {**its, "layers": [
                    *its["layers"][:i], [name, w, c], *its["layers"][i + 1 :]]}  # fmt: skip
    for name, value in (("optimizer", "sgd"), ("loss", "squared"), ("dtype", "float32")):
        if its[name] != value:
            yield {**its, name: value}
