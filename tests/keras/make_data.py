"""Makes the files in data/, which test_loading.py reads, with Keras 3 (KERAS_BACKEND=jax)."""

from pathlib import Path

import keras
import numpy as np

DATA, layers = Path(__file__).parent / "data", keras.layers


def images():
    """Every layer that is for images, and a Sequential within."""
    return keras.Sequential([
        layers.Input((9, 8, 2)),
        layers.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(epsilon=2e-3),
        layers.MaxPooling2D(2, strides=1, padding="same"),
        layers.Conv2D(6, 2, groups=2, use_bias=False), layers.AveragePooling2D((2, 1)),
        layers.Activation("gelu"), layers.Dropout(0.3), layers.Flatten(),
        layers.Dense(6, activation="leaky_relu"), layers.LayerNormalization(),
        keras.Sequential([layers.Dense(6, "tanh"), layers.LeakyReLU(negative_slope=0.3)]),
        layers.Dense(6, activation="softmax"),
    ])  # fmt: skip


def codes():
    """An embedding and convolutions of sequences."""
    return keras.Sequential([
        layers.Input((7,), dtype="int32"), layers.Embedding(5, 3),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="silu"),
        layers.BatchNormalization(), layers.MaxPooling1D(2), layers.GlobalAveragePooling1D(),
        layers.Dense(3), layers.ELU(0.7),
    ])  # fmt: skip


def straight():
    """A functional network whose layers follow one another."""
    x = inputs = keras.Input((4,))
    for _ in range(3):
        x = layers.Dense(4, activation="tanh")(x)
    return keras.Model(inputs, x)


def main():
    rng, found = np.random.default_rng(0), {}
    for make, x, kinds in (
        (images, rng.standard_normal((3, 9, 8, 2)), (".keras",)),
        (codes, rng.integers(0, 5, (3, 7)), (".keras", ".weights.h5")),
        (straight, rng.standard_normal((3, 4)), (".weights.h5",)),
    ):
        keras.backend.clear_session()
        model, name = make(), make.__name__
        model.set_weights([rng.uniform(0.2, 1, w.shape) - 0.4 * (w.ndim > 1)
                           for w in model.get_weights()])  # fmt: skip
        for kind in kinds:
            (model.save if kind == ".keras" else model.save_weights)(DATA / f"{name}{kind}")
        found[f"{name}_x"], found[f"{name}_y"] = x, np.asarray(model(x, training=False))
    np.savez(DATA / "expected.npz", **found)


if __name__ == "__main__":
    main()
