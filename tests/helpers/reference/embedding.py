"""Embeddings: codes of any shape, weight (codes, features)."""

import numpy as np


def embedding_forward(codes, weight):
    return weight[codes.astype(int)]


def embedding_backward(codes, dy, weight):
    """Each code's row is the sum of its gradients, in the order of the batch."""
    dweight = np.zeros_like(weight)
    np.add.at(dweight, codes.astype(int), dy)
    return dweight
