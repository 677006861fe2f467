"""Train 784-256-128-10 on Fashion-MNIST, or on any other folder in the MNIST format.

    python examples/fashion_mnist.py FOLDER [--epochs 10]

The folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- files, each
with or without .gz.  Debian's package dataset-fashion-mnist installs such a folder; the files
are also at https://github.com/zalandoresearch/fashion-mnist.
"""

import argparse

import fastnn
from fastnn import BatchNorm, Dense, Dropout, ReLU, Sequential


def network(seed=0):
    return Sequential(
        Dense(784, 256),
        BatchNorm(256),
        ReLU(),
        Dropout(0.2),
        Dense(256, 128),
        BatchNorm(128),
        ReLU(),
        Dropout(0.2),
        Dense(128, 10),
        seed=seed,
    )


def train(folder, epochs=10, seed=0, progress=True):
    """Returns the test accuracy and the seconds of training."""
    (X, y), (X_test, y_test) = fastnn.datasets.idx(folder)
    model, loss = network(seed), fastnn.SoftmaxCrossEntropy()
    history = model.fit(
        X,
        y,
        loss=loss,
        optimizer=fastnn.Adam(2e-3),
        schedule=fastnn.StepDecay(max(1, 7 * epochs // 10)),  # a tenth of the rate at last
        epochs=epochs,
        batch_size=128,
        seed=seed,
        progress=progress,
    )
    return model.evaluate(X_test, y_test, loss=loss)["accuracy"], sum(history.seconds)


def main():
    parser = argparse.ArgumentParser(description="Train on a folder in the MNIST format.")
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    accuracy, seconds = train(options.folder, options.epochs)
    print(f"test accuracy {accuracy:.2%} after {seconds:.1f} s of training")


if __name__ == "__main__":
    main()
