"""Train a small convolutional network on Fashion-MNIST, and draw what it has learnt.

    python examples/fashion_cnn.py [FOLDER] [--epochs 10] [--seed 0] [--rows N] [--out FOLDER]

FOLDER is in the MNIST format, see fashion_mnist.py; the default is where Debian's package
dataset-fashion-mnist puts it.  Three pictures are written, which need matplotlib:
learning_curve.png, confusion.png and filters.png.  For a first look, --rows 5000 is quick.
"""

import argparse
from pathlib import Path

import numpy as np

import fastnn
from fastnn import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential

FOLDER = "/usr/share/datasets/fashion-mnist"
NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def block(in_channels, channels, kernel_size):
    """Layers that halve the rows and columns, rounded up.

    Batch norm replaces the bias and makes up for small weights.  These begin small, so that in the
    end the filters show what was learnt, not how they began."""
    weight = fastnn.initializers.Normal(0.02)
    return (
        Conv2D(in_channels, channels, kernel_size, padding="same", bias=False, weight_init=weight),
        BatchNorm(channels),
        ReLU(),
        MaxPool2D(2, padding="same"),
    )


def network(classes=10, seed=0):
    return Sequential(
        *block(1, 32, 5),  # 28x28 to 14x14
        *block(32, 64, 3),  # to 7x7
        *block(64, 64, 3),  # to 4x4
        Flatten(),
        Dropout(0.4),
        Dense(4 * 4 * 64, 128, activation="relu"),
        Dropout(0.4),
        Dense(128, classes),
        seed=seed,
    )


def train(model, X, y, epochs=10, seed=0, progress=True):
    """Returns the history.  A twelfth of the rows is for validation."""
    part, validation = fastnn.stratified_split(y, test_fraction=1 / 12, seed=seed)
    return model.fit(
        X[part],
        y[part],
        loss=fastnn.SoftmaxCrossEntropy(),
        optimizer=fastnn.Adam(2e-3),
        schedule=fastnn.Cosine(),  # down to 0
        epochs=epochs,
        batch_size=64,
        seed=seed,
        validation_data=(X[validation], y[validation]),
        progress=progress,
    )


def confusion_matrix(y, predicted, classes):
    """[i, j]: how many of class i were taken for j."""
    return np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)


# ---- pictures: each returns a matplotlib figure ----


def new_figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("The pictures need matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def draw_learning_curve(history):
    figure = new_figure(9, 3.8)
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name, unit, scale in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("", " (%)"), (1, 100), strict=True
    ):
        for prefix, label in ("", "training, with dropout"), ("validation_", "validation"):
            values = np.array(history[prefix + name]) * scale
            axes.plot(epochs, values, marker="o", markersize=4, label=label)
        axes.set(xlabel="epoch", ylabel=f"{name}{unit}", title=f"{name} by epoch".capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def draw_confusion(matrix, names):
    figure = new_figure(8, 7.6)
    axes = figure.subplots()
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=10)  # the root makes small ones visible
    for (i, j), value in np.ndenumerate(share):
        color = "white" if value > 35 else "silver" if value == 0 else "black"
        axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    accuracy = np.trace(matrix) / matrix.sum()
    title = f"Test accuracy {accuracy:.2%}: where each class went, in % of its images"
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    return figure


def draw_filters(weight):
    """The first layer's weight: (rows, columns, 1, filters)."""
    figure = new_figure(8, 4.4)
    weight = weight / abs(weight).max(axis=(0, 1))  # batch norm makes up for sizes
    grid = figure.subplots(4, weight.shape[-1] // 4)
    for i, axes in enumerate(grid.flat):
        image = axes.imshow(weight[:, :, 0, i], cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(i, fontsize=8, pad=2)
        axes.set_axis_off()
    rows, columns = weight.shape[:2]
    figure.suptitle(f"The {weight.shape[-1]} filters of the first layer, {rows}x{columns} pixels")
    figure.colorbar(image, ax=grid, label="weight, its largest being 1", shrink=0.8)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Train a CNN on a folder in the MNIST format.")
    parser.add_argument("folder", nargs="?", default=FOLDER)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="take only the first images of each part")
    parser.add_argument("--out", type=Path, default=".", help="the folder for the pictures")
    parser.add_argument("--names", nargs="+", default=NAMES, help="of the classes, in order")
    options = parser.parse_args(arguments)
    new_figure(1, 1)  # says at once if matplotlib is missing
    try:
        (X, y), (X_test, y_test) = fastnn.datasets.idx(options.folder, flatten=False)
    except FileNotFoundError as error:
        parser.error(f"{error}; name a FOLDER, or install dataset-fashion-mnist")
    options.out.mkdir(parents=True, exist_ok=True)

    rows, classes = slice(options.rows), len(options.names)
    model = network(classes, options.seed)
    print(model.summary(X.shape[1:]))
    history = train(model, X[rows], y[rows], options.epochs, options.seed)
    predicted = model.predict(X_test[rows]).argmax(axis=1)
    matrix = confusion_matrix(y_test[rows], predicted, classes)
    print(f"test accuracy {np.trace(matrix) / matrix.sum():.2%}")

    for name, figure in (
        ("learning_curve", draw_learning_curve(history)),
        ("confusion", draw_confusion(matrix, options.names)),
        ("filters", draw_filters(model.layers[0].weight)),
    ):
        path = options.out / f"{name}.png"
        figure.savefig(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
