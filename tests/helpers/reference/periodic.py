"""Periodic embeddings: x (batch, features), frequency and phase (features, k), weight (features, k,
out - 1), bias (features, out - 1), y (batch, features * out)."""

import numpy as np


def cos_turns(t):
    """cos(2 pi t), from the fraction of t, which is exact."""
    return np.cos(2 * np.asarray(np.pi, np.result_type(t)) * (t - np.round(t)))


def sin_turns(t):
    return np.sin(2 * np.asarray(np.pi, np.result_type(t)) * (t - np.round(t)))


def periodic_forward(x, frequency, phase, weight, bias):
    waves = cos_turns(x[:, :, None] * frequency + phase)
    learnt = np.einsum("bjk,jko->bjo", waves, weight) + bias
    return np.concatenate([x[:, :, None], learnt], axis=2).reshape(len(x), -1)


def periodic_backward(x, dy, frequency, phase, weight):
    """dx, dfrequency, dphase, dweight, dbias."""
    turns = x[:, :, None] * frequency + phase
    dy = dy.reshape(*x.shape, -1)
    learnt = dy[:, :, 1:]
    pi = np.asarray(np.pi, turns.dtype)
    dturns = -2 * pi * sin_turns(turns) * np.einsum("bjo,jko->bjk", learnt, weight)
    return (
        dy[:, :, 0] + (dturns * frequency).sum(axis=2),
        (dturns * x[:, :, None]).sum(axis=0),
        dturns.sum(axis=0),
        np.einsum("bjk,bjo->jko", cos_turns(turns), learnt),
        learnt.sum(axis=0),
    )
