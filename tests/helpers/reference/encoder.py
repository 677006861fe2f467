"""Tables as rows of numbers, cell by cell."""

import math

import numpy as np


def _is_missing(cell):
    return cell is None or cell != cell


def encode_table(train, rows, categorical, max_one_hot=8, clip=3.0):
    """What `TableEncoder` makes of `rows` after `train`, lists of rows of which the columns in
    `categorical` are categories; by its default rules, in Python's own numbers."""
    numeric, gaps, hot, codes, shift = [], [], [], [], 0
    for i in range(len(train[0])):
        seen = [row[i] for row in train if not _is_missing(row[i])]
        cells = [row[i] for row in rows]
        if i not in categorical:
            numeric.append(_scaled([float(cell) for cell in seen], cells, clip))
            if len(seen) < len(train):
                gaps.append([float(_is_missing(cell)) for cell in cells])
            continue
        order = sorted(set(seen))
        if len(order) > max_one_hot:
            places = {item: shift + 1 + j for j, item in enumerate(order)}
            codes.append([places.get(cell, shift) for cell in cells])
            shift += len(order) + 1
        elif len(order) == 2:
            hot.append([{order[0]: -1.0, order[1]: 1.0}.get(cell, 0.0) for cell in cells])
        else:
            hot += [[float(cell == item) for cell in cells] for item in order]
    return np.array(numeric + gaps + hot + codes, float).T


def _scaled(seen, cells, clip):
    middle = np.median(seen)
    spread = np.percentile(seen, 75) - np.percentile(seen, 25)
    spread = spread or (max(seen) - min(seen)) / 2
    out = []
    for cell in cells:
        z = 0.0 if _is_missing(cell) or spread == 0 else (float(cell) - middle) / spread
        out.append(z / math.sqrt(1 + (z / clip) ** 2))
    return out
