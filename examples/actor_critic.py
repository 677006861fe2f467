"""Learn to balance a pole on a cart with an advantage actor-critic, in a few seconds.

In reinforcement learning the gradient comes from no loss: `GradientStep` gives the outputs, NumPy
computes the policy gradient, and the step goes on with it.  The task and its equations are those of
A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult learning
control problems", 1983: push the cart left or right, 50 times a second; an episode ends when the
pole leans more than 12 degrees, the cart leaves its track, or after 500 pushes.
"""

import numpy as np

import fastnn
from fastnn import Dense, Sequential

CARTS, PUSHES = 16, 32  # carts at once, and pushes between two updates
BATCH, DISCOUNT, TRACE = 64, 0.99, 0.95


def push(state, right):
    """The carts (n, 4: position, speed, angle, angular speed) a fiftieth of a second later."""
    x, v, angle, w = state.T
    force, gravity, cart, pole, half_length, dt = 10.0, 9.8, 1.0, 0.1, 0.5, 0.02
    sin, cos, mass = np.sin(angle), np.cos(angle), cart + pole
    pushed = (np.where(right, force, -force) + pole * half_length * w**2 * sin) / mass
    turn = (gravity * sin - cos * pushed) / (half_length * (4 / 3 - pole * cos**2 / mass))
    speed_up = pushed - pole * half_length * turn * cos / mass
    return np.stack([x + dt * v, v + dt * speed_up, angle + dt * w, w + dt * turn], axis=1)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def network(outputs, seed):
    return Sequential(
        Dense(4, 64, activation="tanh"),
        Dense(64, 64, activation="tanh"),
        Dense(64, outputs),
        seed=seed,
    )


def advantages(falls, values):
    """How much better it went than the critic's `values` (pushes + 1, carts) predicted, where each
    push is worth 1: generalized advantage estimation, J. Schulman et al., 2016."""
    result, following = np.zeros(falls.shape), 0.0
    for t in reversed(range(len(falls))):
        surprise = 1.0 + DISCOUNT * ~falls[t] * values[t + 1] - values[t]
        result[t] = following = surprise + DISCOUNT * TRACE * ~falls[t] * following
    return result


def train(updates=200, seed=0, progress=True):
    """Returns the mean length of the last 50 episodes, after each update."""
    rng = np.random.default_rng(seed)
    policy, value = network(2, seed), network(1, seed + 1)
    actor = fastnn.GradientStep(policy, fastnn.Adam(clip_norm=1.0))
    critic = fastnn.GradientStep(value, fastnn.Adam(3e-3))
    state, age, lengths, means = rng.uniform(-0.05, 0.05, (CARTS, 4)), np.zeros(CARTS, int), [], []
    for update in range(updates):
        states, rights, falls = [], [], []
        for _ in range(PUSHES):
            right = rng.random(CARTS) < softmax(policy.predict(state))[:, 1]
            states.append(state)
            state, age = push(state, right), age + 1
            fell = (abs(state[:, 0]) > 2.4) | (abs(state[:, 2]) > np.pi / 15)
            over = fell | (age == 500)
            lengths += age[over].tolist()
            state[over], age[over] = rng.uniform(-0.05, 0.05, (over.sum(), 4)), 0
            rights.append(right)
            falls.append(fell)
        x, taken = np.concatenate(states), np.concatenate(rights).astype(int)
        values = value.predict(np.concatenate([x, state])).reshape(PUSHES + 1, CARTS)
        gain = advantages(np.array(falls), values)
        goal = (values[:-1] + gain).reshape(-1, 1)
        gain = ((gain - gain.mean()) / gain.std()).reshape(-1, 1)
        actor.optimizer.learning_rate = 1e-3 * (1 - update / updates)
        for rows in rng.permutation(len(x)).reshape(-1, BATCH):
            # the gradient of -gain log(probability of what was done), and of half the squared error
            probability = softmax(actor.forward(x[rows]))
            actor.backward(gain[rows] * (probability - np.eye(2)[taken[rows]]) / BATCH)
            critic.backward((critic.forward(x[rows]) - goal[rows]) / BATCH)
        means.append(float(np.mean(lengths[-50:])))
        if progress and update % 20 == 19:
            print(f"update {update + 1:3}: the last 50 episodes had {means[-1]:5.1f} pushes")
    return means


if __name__ == "__main__":
    train()
