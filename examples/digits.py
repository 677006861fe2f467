"""Train on the digits that ship with fastnn; a second or two is enough.

Copy from it when your data fit in memory as arrays.
"""

import fastnn
from fastnn import BatchNorm, Dense, Dropout, ReLU, Sequential


def train(seed=0, epochs=30, progress=True):
    """Returns the accuracy on a held-out fifth, and the history."""
    X, y = fastnn.datasets.digits()
    train, test = fastnn.stratified_split(y, test_fraction=0.2, seed=seed)
    model = Sequential(
        Dense(64, 256),
        BatchNorm(256),
        ReLU(),
        Dropout(0.5),
        Dense(256, 10),
        seed=seed,
    )
    history = model.fit(
        X[train],
        y[train],
        loss=fastnn.SoftmaxCrossEntropy(label_smoothing=0.1),
        optimizer=fastnn.Adam(5e-3),
        epochs=epochs,
        batch_size=32,
        seed=seed,
        validation_data=(X[test], y[test]),
        progress=progress,
    )
    return history.validation_accuracy[-1], history


def main():
    accuracy, history = train()
    print(history)
    print(f"held-out accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
