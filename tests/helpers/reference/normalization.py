"""Batch norm and layer norm: x (batch, features)."""

import numpy as np


def batchnorm_forward(x, gamma, beta, running_mean, running_var, momentum, eps):
    """y, mean, inv_std, new running mean and variance; all variances are biased (divided by n)."""
    mean, var = x.mean(axis=0), x.var(axis=0)
    inv_std = 1 / np.sqrt(var + eps)
    y = gamma * (x - mean) * inv_std + beta
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var
    return y, mean, inv_std, running_mean, running_var


def batchnorm_evaluate(x, gamma, beta, running_mean, running_var, eps):
    return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta


def batchnorm_backward(x, dy, gamma, eps):
    """dx, dgamma, dbeta."""
    mean, inv_std = x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + eps)
    normal = (x - mean) * inv_std
    dgamma, dbeta = (dy * normal).sum(axis=0), dy.sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / len(x) - normal * dgamma / len(x))
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, eps):
    """y, mean and inv_std, the latter two for each row."""
    mean, var = x.mean(axis=-1), x.var(axis=-1)
    inv_std = 1 / np.sqrt(var + eps)
    return gamma * (x - mean[:, None]) * inv_std[:, None] + beta, mean, inv_std


def layernorm_backward(x, dy, gamma, eps):
    """dx, dgamma, dbeta."""
    mean = x.mean(axis=-1, keepdims=True)
    inv_std = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normal, d = (x - mean) * inv_std, dy * gamma
    dx = inv_std * (
        d - d.mean(axis=-1, keepdims=True) - normal * (d * normal).mean(axis=-1, keepdims=True)
    )
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)
