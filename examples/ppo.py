"""Balance a pole on a cart with proximal policy optimization, in a few seconds: ``python ppo.py``.

J. Schulman et al., "Proximal policy optimization algorithms", 2017.  In reinforcement learning the
gradient comes from no loss: `GradientStep` gives the outputs, NumPy computes the policy's gradient,
and the step goes on with it.  The constants are those of RL Baselines3 Zoo for CartPole-v1.
"""

import argparse

import numpy as np

import fastnn
from environments import CartPole, returns
from fastnn import Dense, Heads, Sequential
from fastnn.initializers import Orthogonal

CARTS, PUSHES, EPOCHS = 8, 32, 20  # carts at once, pushes between updates, passes over these
RATE, CLIP, DISCOUNT, TRACE = 1e-3, 0.2, 0.98, 0.8


def network(outputs, gain, seed):
    """Orthogonal weights, and small ones at the end of a policy, which so begins at random."""
    hidden = {"activation": "tanh", "weight_init": Orthogonal(2**0.5)}
    return Sequential(
        Dense(4, 64, **hidden),
        Dense(64, 64, **hidden),
        Dense(64, outputs, weight_init=Orthogonal(gain)),
        seed=seed,
    )


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def advantages(rewards, values, following_values, ended, over):
    """How much better it went than the critic's `values` (pushes, carts) predicted: generalized
    advantage estimation, J. Schulman et al., 2016."""
    surprise = rewards + DISCOUNT * ~ended * following_values - values
    result, later = np.zeros(surprise.shape), 0.0
    for t in reversed(range(len(surprise))):
        result[t] = later = surprise[t] + DISCOUNT * TRACE * ~over[t] * later
    return result


def policy_gradient(probability, old_probability, taken, gain, clip):
    """The gradient by the logits of the mean of -min(r gain, clip(r) gain), where r is how much
    more probable what was done, `taken` (rows, actions), one-hot, has become.

    Beyond the clip there is none, unless it leads back."""
    now, before = ((p * taken).sum(axis=1, keepdims=True) for p in (probability, old_probability))
    r = now / before
    free = np.where(gain > 0, r < 1 + clip, r > 1 - clip)
    return gain * r * free * (probability - taken) / len(gain)


class Agent:
    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.model = Sequential(Heads(network(2, 0.01, seed), network(1, 1.0, seed + 1)))
        self.predictor = self.model.predictor(CARTS)
        self.step = fastnn.GradientStep(self.model, fastnn.Adam(RATE, clip_norm=0.5))

    def best(self, observations):
        return self.model.predict(observations)[:, :2].argmax(axis=1)

    def play(self, task):
        """What happened in so many pushes of each cart, each an array (pushes, carts, ...)."""
        happened = []
        self.predictor.refresh()
        for _ in range(PUSHES):
            seen = task.observations
            outputs = self.predictor(seen).copy()
            probability, values = softmax(outputs[:, :2]), outputs[:, 2]
            right = (self.rng.random(CARTS) < probability[:, 1]).astype(int)
            happened.append((seen, probability, values, right, *task.step(right)))
        return map(np.array, zip(*happened, strict=True))

    def update(self, left, seen, probability, values, right, rewards, following, ended, over):
        """Many steps on what happened; `left` is the part of the training that is left."""
        following_values = self.model.predict(following.reshape(-1, 4))[:, 2].reshape(values.shape)
        gain = advantages(rewards, values, following_values, ended, over)
        goal, x = (values + gain).reshape(-1, 1), seen.reshape(-1, 4)
        gain = ((gain - gain.mean()) / (gain.std() + 1e-8)).reshape(-1, 1)
        taken, probability = np.eye(2)[right.ravel()], probability.reshape(-1, 2)
        self.step.optimizer.learning_rate = RATE * left
        for _ in range(EPOCHS):
            logits, value = np.split(self.step.forward(x), [2], axis=1)
            dlogits = policy_gradient(softmax(logits), probability, taken, gain, CLIP * left)
            self.step.backward(np.concatenate([dlogits, (value - goal) / len(x)], axis=1))


def train(steps=100_000, seed=0, progress=True):
    """Returns the agent after so many pushes."""
    task, agent, updates = CartPole(CARTS, seed), Agent(seed), steps // (CARTS * PUSHES)
    for update in range(updates):
        agent.update(1 - update / updates, *agent.play(task))
        if progress and (update + 1) % 40 == 0:
            mean = returns(CartPole, agent.best).mean()
            pushes = (update + 1) * CARTS * PUSHES
            print(f"push {pushes:6}: mean return of 100 episodes {mean:5.1f}", flush=True)
    return agent


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    agent = train(options.steps, options.seed)
    print(f"mean return of 100 episodes: {returns(CartPole, agent.best).mean():.1f} of 500")


if __name__ == "__main__":
    main()
