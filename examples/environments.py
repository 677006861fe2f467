"""Two tasks for agents, in NumPy, many of each at once: nothing else needs to be installed.

`CartPole` has two actions, `Pendulum` a torque.  Equations, starts, rewards and time limits are
those of Gymnasium's CartPole-v1 and Pendulum-v1, so that returns can be compared with published
ones: CartPole-v1 counts as solved from a mean return of 475 on, of 500; on Pendulum-v1 the agents
of RL Baselines3 Zoo reach -150 to -170.
"""

import numpy as np


class Environment:
    """`number` copies of a task side by side; what is over begins anew at once.

    `observations` (number, features) are what the agent sees now.
    """

    limit: int  # steps after which an episode is cut off

    def __init__(self, number, seed=0):
        self.rng = np.random.default_rng(seed)
        self.state, self.age = self.start(number), np.zeros(number, int)

    @property
    def observations(self):
        return self.observe(self.state)

    def step(self, actions):
        """Returns, for each copy: the reward, the observation that follows, whether the task has
        ended there, and whether the episode is over, because of that or of the time limit.

        Where an episode is merely cut off, the future would have been worth something still.
        """
        state, rewards, ended = self.move(self.state, actions)
        self.age += 1
        over = ended | (self.age == self.limit)
        following = self.observe(state)
        state[over], self.age[over] = self.start(over.sum()), 0
        self.state = state
        return rewards, following, ended, over


class CartPole(Environment):
    """Push a cart left (0) or right (1), 50 times a second, so that the pole on it stays upright.

    Each push is worth 1.  The task ends when the pole leans more than 12 degrees or the cart leaves
    its track.  Observed are position, speed, angle, angular speed.  A. Barto, R. Sutton,
    C. Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems",
    1983.
    """

    limit = 500

    def start(self, number):
        return self.rng.uniform(-0.05, 0.05, (number, 4))

    def observe(self, state):
        return state.astype(np.float32)

    def move(self, state, actions):
        x, v, angle, w = state.T
        force, gravity, cart, pole, half_length, dt = 10.0, 9.8, 1.0, 0.1, 0.5, 0.02
        sin, cos, mass = np.sin(angle), np.cos(angle), cart + pole
        pushed = (np.where(actions, force, -force) + pole * half_length * w**2 * sin) / mass
        turn = (gravity * sin - cos * pushed) / (half_length * (4 / 3 - pole * cos**2 / mass))
        speed_up = pushed - pole * half_length * turn * cos / mass
        state = np.stack([x + dt * v, v + dt * speed_up, angle + dt * w, w + dt * turn], axis=1)
        ended = (abs(state[:, 0]) > 2.4) | (abs(state[:, 2]) > np.pi / 15)
        return state, np.ones(len(state)), ended


class Pendulum(Environment):
    """Swing a pendulum up and keep it there with a torque (number, 1) of at most 2.

    It is too weak to lift it at once.  Observed are cosine and sine of the angle from the top, and
    the angular speed.
    """

    limit, torque = 200, 2.0

    def start(self, number):
        return self.rng.uniform([-np.pi, -1.0], [np.pi, 1.0], (number, 2))

    def observe(self, state):
        angle, w = state.T
        return np.stack([np.cos(angle), np.sin(angle), w], axis=1).astype(np.float32)

    def move(self, state, actions):
        angle, w = state.T
        torque, gravity, dt = np.clip(actions[:, 0], -self.torque, self.torque), 10.0, 0.05
        from_top = (angle + np.pi) % (2 * np.pi) - np.pi
        rewards = -(from_top**2 + 0.1 * w**2 + 0.001 * torque**2)
        w = np.clip(w + dt * (1.5 * gravity * np.sin(angle) + 3 * torque), -8, 8)
        return np.stack([angle + dt * w, w], axis=1), rewards, np.zeros(len(state), bool)


def returns(task, act, episodes=100, seed=12345):
    """The sum of rewards of each of so many episodes of a task, such as `CartPole`, in which an
    agent does what `act(observations)` says."""
    copies, total, running = task(episodes, seed), np.zeros(episodes), np.ones(episodes, bool)
    for _ in range(task.limit):
        rewards, _, _, over = copies.step(act(copies.observations))
        total += rewards * running
        running &= ~over
    return total
