"""Optimizers: each is the update of one vector p by g at step t = 1, 2, ...; clipping; L2."""

import numpy as np


class Optimizer:
    """Holds the state that update() needs from step to step."""

    def __init__(self, learning_rate, **options):
        self.learning_rate, self.t, self.state = learning_rate, 0, {}
        self.__dict__.update(options)

    def moment(self, name, p):
        return self.state.setdefault(name, np.zeros_like(p))

    def step(self, p, g):
        self.t += 1
        return self.update(p, g)


class SGD(Optimizer):
    def update(self, p, g):
        return p - self.learning_rate * g


class Momentum(Optimizer):
    beta, nesterov = 0.9, False

    def update(self, p, g):
        v = self.state["v"] = self.beta * self.moment("v", p) + g
        return p - self.learning_rate * (g + self.beta * v if self.nesterov else v)


class RMSprop(Optimizer):
    beta, eps, bias_correction = 0.9, 1e-8, False

    def update(self, p, g):
        s = self.state["s"] = self.beta * self.moment("s", p) + (1 - self.beta) * g * g
        if self.bias_correction:
            s = s / (1 - self.beta**self.t)
        return p - self.learning_rate * g / (np.sqrt(s) + self.eps)


class Adam(Optimizer):
    beta1, beta2, eps, weight_decay = 0.9, 0.999, 1e-8, 0.0

    def update(self, p, g):
        m = self.state["m"] = self.beta1 * self.moment("m", p) + (1 - self.beta1) * g
        s = self.state["s"] = self.beta2 * self.moment("s", p) + (1 - self.beta2) * g * g
        m, s = m / (1 - self.beta1**self.t), s / (1 - self.beta2**self.t)
        p = p - self.learning_rate * self.weight_decay * p  # decoupled: AdamW
        return p - self.learning_rate * m / (np.sqrt(s) + self.eps)


def clip_norm(gradients, max_norm):
    """The global norm, and the factor that brings it to max_norm at most."""
    norm = np.sqrt((gradients**2).sum())
    return norm, max_norm / norm if norm > max_norm else 1.0


def l2_penalty(weights, strength, batch_size):
    """λ/(2m) Σ‖W‖²; its gradient is λ/m W."""
    return strength / (2 * batch_size) * sum((w**2).sum() for w in weights)
