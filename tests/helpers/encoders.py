"""Settings of a `TableEncoder`, and tables of all kinds of columns."""

import numpy as np

NAN = float("nan")
SPECIAL = [NAN, 0.0, -0.0, 1e-310, 1e30, -1e200, 1.7e308, -1.7e308, 1.6e9]

# settings of the encoder, and columns of the table that it has
SETTINGS = {
    "default": ({}, slice(None)),
    "recipe": ({"scale_one_hot": True}, slice(None)),
    "one-hot, scaled, not clipped": (
        {"scale_one_hot": True, "clip": None, "scaling": "standard", "max_one_hot": 50}, slice(None)
    ),
    "codes": ({"max_one_hot": 0, "clip": 0.5}, slice(None)),
    "as they are": ({"scaling": None, "clip": None, "add_indicator": False}, slice(None)),
    "numbers": ({"scale_one_hot": True}, slice(0, 4)),
    "categories": ({}, slice(4, None)),
    "codes alone": ({"max_one_hot": 1}, slice(5, 7)),
}  # fmt: skip


def table(rows, rng, new=False):
    """Numbers: large ones with an offset, some missing, a constant, truth values; categories: of
    text, of truth values, few and many numbers, only missing ones.  New rows have what is unseen,
    and numbers at the edges."""
    numbers = np.stack(
        [
            rng.normal(1.6e9, 1e4, rows), rng.standard_cauchy(rows), np.full(rows, 3.0),
            rng.integers(0, 2, rows),
        ], axis=1,
    )  # fmt: skip
    numbers[rng.random(rows) < 0.1, 1] = np.nan
    if new:
        edges = rng.random((rows, 4)) < 0.2
        numbers[edges] = rng.choice(SPECIAL, edges.sum())
    text = ["red", "green", None, "*/", "new"]
    categories = [
        [text[i] for i in rng.integers(0, 4 + new, rows)],
        [bool(i) for i in rng.integers(0, 2, rows)],
        [[-2.5, 1.0, 1e300, NAN, 7.25][i] for i in rng.integers(0, 4 + new, rows)],
        [int(i) ** 2 for i in rng.integers(0, 30 + 9 * new, rows)],
        [None] * rows,
    ]
    return np.column_stack([numbers.astype(object), *(np.array(c, object) for c in categories)])


def as_numbers(encoder, rows):
    """The rows as exported files take them."""
    found, categories = np.empty(rows.shape), iter(encoder.categories_)
    for i, column in enumerate(rows.T.tolist()):
        known = next(categories) if encoder.is_categorical_[i] else []
        if any(isinstance(item, str) for item in known):
            column = [NAN if c is None else known.index(c) if c in known else 99 for c in column]
        found[:, i] = [NAN if item is None else item for item in column]
    return found
