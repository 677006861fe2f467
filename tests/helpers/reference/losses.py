"""Losses: outputs (batch, n) -> each row's value and gradient; `weighted` takes their mean."""

import numpy as np

from reference.activations import sigmoid, softmax


def one_hot(labels, classes, like=np.float64):
    rows = np.zeros((len(labels), classes), like)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def softmax_cross_entropy(logits, targets, label_smoothing=0.0):
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = one_hot(targets, classes, logits.dtype)
    t = (1 - label_smoothing) * targets + label_smoothing / classes
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    mass = t.sum(axis=1, keepdims=True)  # 1 for probabilities
    terms = np.where(t == 0, 0, t * (log_sum - shifted))
    return terms.sum(axis=1), softmax(logits) * mass - t


def class_weighted_cross_entropy(
    logits, targets, class_weight, label_smoothing=0.0, sample_weight=None
):
    """Value and gradient of Σ_i s_i Σ_j -w_j t_ij log p_ij / D, the smoothed t; D is Σ s_i w_i of
    the rows' labels, Σ s_i of rows of probabilities.  A row whose class has the weight 0 is out."""
    n, classes = logits.shape
    s = np.ones(n) if sample_weight is None else sample_weight
    w = np.asarray(class_weight, float)
    if targets.ndim == 1:
        s, total = np.where(w[targets] > 0, s, 0), (s * w[targets]).sum()
        targets = one_hot(targets, classes)
    else:
        total = s.sum()
    t = w * ((1 - label_smoothing) * targets + label_smoothing / classes)
    p = softmax(logits)
    value = (s[:, None] * -t * np.log(p)).sum() / total
    return value, s[:, None] / total * (t.sum(axis=1, keepdims=True) * p - t)


def sigmoid_cross_entropy(logits, targets, pos_weight=1.0):
    n = logits.shape[1]
    # -p t log s(z) - (1 - t) log(1 - s(z)), as a sum of terms that cannot overflow
    no = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    yes = np.maximum(-logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    p = pos_weight * targets
    value = p * yes + (1 - targets) * no
    return value.mean(axis=1), ((p + 1 - targets) * sigmoid(logits) - p) / n


def squared_error(outputs, targets):
    difference = outputs - targets
    return (difference**2).mean(axis=1), 2 * difference / outputs.shape[1]


def absolute_error(outputs, targets):
    difference = outputs - targets
    return np.abs(difference).mean(axis=1), np.sign(difference) / outputs.shape[1]


def quantile(outputs, targets, q=0.5):
    """The pinball loss; q is a number, or one for each column."""
    d, q = targets - outputs, np.asarray(q)
    slope = np.where(d > 0, -q, np.where(d < 0, 1 - q, 0))
    return np.maximum(q * d, (q - 1) * d).mean(axis=1), slope / outputs.shape[1]


def huber(outputs, targets, delta=1.0):
    """Quadratic to a distance of delta, linear with slope delta beyond."""
    difference = outputs - targets
    size = np.abs(difference)
    value = np.where(size <= delta, difference**2 / 2, delta * (size - delta / 2))
    return value.mean(axis=1), np.clip(difference, -delta, delta) / outputs.shape[1]


def poisson(outputs, targets):
    """The outputs are the logarithms of the expected counts."""
    value = np.exp(outputs) - targets * outputs
    return value.mean(axis=1), (np.exp(outputs) - targets) / outputs.shape[1]


def hinge(scores, targets, margin=1.0):
    """Σ_{j≠y} max(0, s_j - s_y + margin); the derivative at the kink is 0."""
    rows = np.arange(len(scores))
    over = scores - scores[rows, targets][:, None] + margin
    over[rows, targets] = 0
    gradient = (over > 0).astype(scores.dtype)
    gradient[rows, targets] = -gradient.sum(axis=1)
    return np.maximum(over, 0).sum(axis=1), gradient


def weighted(rows, gradient, sample_weight=None):
    """Σ w_i l_i / Σ w_i, and its gradient from the rows' gradients."""
    w = np.ones(len(rows), rows.dtype) if sample_weight is None else sample_weight
    share = w / w.sum()
    return (share * rows).sum(), share[:, None] * gradient
