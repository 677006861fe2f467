"""The agents among the examples: their tasks, their gradients, and that they learn."""

import numpy as np
import pytest

import dqn
import fastnn
import ppo
import sac
from environments import CartPole, Pendulum, returns


def differences(f, x, epsilon=1e-6):
    """The gradient of f by x, from the values on both sides."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = epsilon
        gradient[i] = (f(x + step) - f(x - step)) / (2 * epsilon)
    return gradient


# ---- the tasks -------------------------------------------------------------------------------


def test_the_cart_moves_as_its_equations_say():
    """Upright at rest: a push to the right speeds the cart up and tips the pole to the left."""
    task = CartPole(2)
    state, rewards, ended = task.move(np.zeros((2, 4)), np.array([1, 0]))
    np.testing.assert_allclose(state[0], -state[1])
    turn = -10 / 1.1 / (0.5 * (4 / 3 - 0.1 / 1.1))  # from the paper, with cos 1 and sin 0
    np.testing.assert_allclose(state[0], [0, 0.02 * (10 - 0.05 * turn) / 1.1, 0, 0.02 * turn])
    assert (rewards == 1).all() and not ended.any()
    x, v, angle, w = task.move(state, np.array([1, 0]))[0][0]
    assert x > 0 and v > 0 and angle < 0 and w < 0


def test_the_cart_has_limits():
    edge, lean = 2.4, np.pi / 15
    inside = [[0.99 * edge, 0, 0, 0], [0, 0, -0.99 * lean, 0]]
    outside = [[-1.01 * edge, 0, 0, 0], [0, 0, 1.01 * lean, 0]]
    ended = CartPole(4).move(np.array(inside + outside), np.zeros(4, int))[2]
    assert ended.tolist() == [False, False, True, True]


def test_the_pendulum_swings_as_its_equations_say():
    state = np.array([[0.0, 0.0], [np.pi / 2, 0.0], [np.pi, 1.0], [np.pi / 2, 7.9], [-7.0, 0.0]])
    torque = np.array([[0.0], [1.0], [0.0], [9.0], [0.0]])  # of which 2 are left
    following, rewards, ended = Pendulum(5).move(state, torque)
    speeds = [0, 0.05 * (15 + 3), 1.0, 8.0, -0.05 * 15 * np.sin(7.0)]
    np.testing.assert_allclose(following[:, 1], speeds, atol=1e-12)
    np.testing.assert_allclose(following[:, 0], state[:, 0] + 0.05 * np.array(speeds), atol=1e-12)
    from_top = np.array([0, np.pi / 2, np.pi, np.pi / 2, 2 * np.pi - 7])
    costs = from_top**2 + 0.1 * state[:, 1] ** 2 + 0.001 * np.array([0, 1, 0, 4, 0])
    np.testing.assert_allclose(rewards, -costs)
    assert not ended.any()


def test_an_episode_begins_anew_when_it_is_over():
    task = Pendulum(3)
    task.age[1] = task.limit - 1
    _, following, ended, over = task.step(np.zeros((3, 1)))
    assert over.tolist() == [False, True, False] and not ended.any()
    same = (following == task.observations).all(axis=1)
    assert same.tolist() == [True, False, True] and task.age.tolist() == [1, 0, 1]


def test_returns_count_the_first_episode_of_each_copy():
    """Always to the right: the pole falls after about ten pushes."""
    falls = returns(CartPole, lambda x: np.ones(len(x), int), episodes=7)
    task, expected = CartPole(7, 12345), np.zeros(7)
    state = task.state
    for push in range(1, 30):
        state, _, ended = task.move(state, np.ones(7, int))
        expected[ended & (expected == 0)] = push
    assert (falls == expected).all() and falls.min() > 5 and falls.max() < 15


@pytest.mark.parametrize("task, name", [(CartPole, "CartPole-v1"), (Pendulum, "Pendulum-v1")])
def test_tasks_are_those_of_gymnasium(task, name):
    theirs = pytest.importorskip("gymnasium").make(name)
    rng, mine, over = np.random.default_rng(0), task(1), True
    for _ in range(3 * task.limit):
        if over:
            theirs.reset(seed=0)
            mine.state, mine.age = np.array([theirs.unwrapped.state], float), np.zeros(1, int)
        action = rng.integers(2) if task is CartPole else rng.uniform(-3, 3, 1)
        seen, reward, ended, cut, _ = theirs.step(action)
        rewards, following, my_ended, my_over = mine.step(np.array([action]))
        np.testing.assert_allclose(following[0], seen, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(rewards[0], reward, rtol=1e-6)
        over = ended or cut
        assert (my_ended[0], my_over[0]) == (ended, over)


# ---- their gradients -------------------------------------------------------------------------


def test_advantages_are_sums_of_surprises():
    rng = np.random.default_rng(0)
    rewards, values, following = rng.normal(size=(3, 6, 2))
    ended, over = np.zeros((2, 6, 2), bool)
    ended[2, 0] = over[2, 0] = over[3, 1] = True  # one falls, the other one is cut off
    gain = ppo.advantages(rewards, values, following, ended, over)
    future = np.where(ended, 0, following)
    surprise, decay = rewards + ppo.DISCOUNT * future - values, ppo.DISCOUNT * ppo.TRACE
    for cart, cut in enumerate([2, 3]):
        for t in range(6):
            last = cut if t <= cut else 5
            terms = [decay ** (s - t) * surprise[s, cart] for s in range(t, last + 1)]
            np.testing.assert_allclose(gain[t, cart], sum(terms))


def test_policy_gradient_of_ppo():
    rng = np.random.default_rng(0)
    logits, old, gain = rng.normal(size=(64, 2)), rng.normal(size=(64, 2)), rng.normal(size=(64, 1))
    taken, before = np.eye(2)[rng.integers(2, size=64)], ppo.softmax(old)

    def loss(logits):
        r = (ppo.softmax(logits) * taken).sum(1) / (before * taken).sum(1)
        return -np.minimum(r * gain[:, 0], np.clip(r, 0.8, 1.2) * gain[:, 0]).mean()

    gradient = ppo.policy_gradient(ppo.softmax(logits), before, taken, gain, 0.2)
    assert 10 < (gradient != 0).all(axis=1).sum() < 60  # some are clipped, some are not
    np.testing.assert_allclose(gradient, differences(loss, logits), rtol=1e-5, atol=1e-9)


class Noise:
    """A generator that always draws the same numbers."""

    def __init__(self, noise):
        self.noise = noise

    def standard_normal(self, shape, dtype):
        return self.noise[: shape[0]]


def test_squashed_actions_and_their_gradient():
    rng = np.random.default_rng(0)
    outputs, noise = rng.normal(size=(32, 4)), rng.normal(size=(32, 2))
    outputs[:4, 2:] += 3  # the standard deviation is clipped
    da, dlog = rng.normal(size=(32, 2)), rng.normal(size=(32, 1))
    drawn = sac.Squashed(outputs, Noise(noise))
    mean, std = outputs[:, :2], np.exp(np.minimum(outputs[:, 2:], 2))
    u = mean + std * noise
    density = np.exp(-0.5 * noise**2) / np.sqrt(2 * np.pi) / std / (1 - np.tanh(u) ** 2)
    few = abs(u).max(axis=1) < 5  # beyond, 1 - tanh(u)^2 loses its digits
    assert few.sum() > 20
    np.testing.assert_allclose(drawn.actions, np.tanh(u))
    np.testing.assert_allclose(drawn.log_density[few, 0], np.log(density).sum(1)[few], rtol=1e-7)

    def loss(outputs):
        drawn = sac.Squashed(outputs, Noise(noise))
        return (drawn.actions * da).sum() + (drawn.log_density * dlog).sum()

    np.testing.assert_allclose(
        drawn.backward(da, dlog), differences(loss, outputs), rtol=1e-5, atol=1e-7
    )


def test_far_actions_have_finite_densities():
    """log(1 - tanh(u)^2) goes towards log 4 - 2 |u|."""
    outputs, noise, ones = np.array([[200.0, 0.0], [-200.0, 1.0]]), np.ones((2, 1)), np.ones((2, 1))
    drawn = sac.Squashed(outputs.astype(np.float32), Noise(noise.astype(np.float32)))
    far = 2 * np.array([200 + 1, 200 - np.e])
    expected = -0.5 - np.log(2 * np.pi) / 2 - outputs[:, 1] - np.log(4) + far
    np.testing.assert_allclose(drawn.log_density[:, 0], expected, rtol=1e-5)
    assert np.isfinite(drawn.backward(ones, ones)).all()


def test_goal_of_dqn_counts_rewards_of_several_steps():
    """Until the episode is over, or as many as are counted."""
    agent, rng = dqn.Agent(), np.random.default_rng(0)
    steps = np.zeros((3, dqn.AHEAD), dqn.STEP)
    steps["reward"], steps["following"] = rng.normal(size=(2, 3, dqn.AHEAD, 1))[0, ..., 0], 0.0
    steps["following"] = rng.normal(size=(3, dqn.AHEAD, 4))
    steps["ended"][1, 2] = steps["over"][1, 2] = True  # falls in the third step
    steps["over"][2, 4] = steps["over"][2, 7] = True  # is cut off in the fifth, and again
    agent.target.flat_parameters[...] *= 1.1  # not the model
    for row, last, ended in [(0, dqn.AHEAD - 1, False), (1, 2, True), (2, 4, False)]:
        expected = sum(dqn.DISCOUNT**k * steps["reward"][row, k] for k in range(last + 1))
        x = steps["following"][row, last : last + 1]
        best = agent.model.predict(x)[0].argmax()
        if not ended:
            expected += dqn.DISCOUNT ** (last + 1) * agent.target.predict(x)[0, best]
        np.testing.assert_allclose(agent.goal(steps)[row, 0], expected, rtol=1e-5)


def test_update_of_sac_is_that_of_its_losses_in_pytorch():
    torch = pytest.importorskip("torch")
    rng, rows, rate, alpha = np.random.default_rng(0), 16, 0.05, 0.3
    agent = sac.Agent(3, 2, hidden=8, optimizer=lambda: fastnn.SGD(rate))
    noise = rng.normal(size=(rows, 2)).astype(np.float32)
    agent.rng, agent.log_temperature.values = Noise(noise), [np.log(alpha)]
    agent.targets.flat_parameters[...] *= 1.2
    batch = [rng.normal(size=(rows, n)).astype(np.float32) for n in (5, 1, 3)]
    batch.append((rng.random((rows, 1)) < 0.3).astype(np.float32))

    def tensors(model):
        return [torch.tensor(p, dtype=torch.float64) for p in model.parameters.values()]

    def perceptron(p, x):
        return ((x @ p[0] + p[1]).relu() @ p[2] + p[3]).relu() @ p[4] + p[5]

    def worths(p, x):
        return torch.cat([perceptron(p[:6], x), perceptron(p[6:], x)], dim=1)

    def draw(p, x):
        mean, log_std = perceptron(p, x).chunk(2, dim=1)
        log_std = log_std.clamp(-20, 2)
        normal = torch.distributions.Normal(mean, log_std.exp())
        u = mean + log_std.exp() * torch.tensor(noise)
        log_density = normal.log_prob(u) - torch.log(1 - u.tanh() ** 2)
        return u.tanh(), log_density.sum(1, keepdim=True)

    def step(p, loss):
        return [a - rate * g for a, g in zip(p, torch.autograd.grad(loss, p), strict=True)]

    actor, critics, targets = map(tensors, (agent.actor, agent.critics, agent.targets))
    pairs, rewards, following, ended = (torch.tensor(x, dtype=torch.float64) for x in batch)
    for p in (*actor, *critics):
        p.requires_grad_()
    a, log_density = draw(actor, following)
    worth = worths(targets, torch.cat([following, a], dim=1)).min(1, keepdim=True).values
    goal = rewards + sac.DISCOUNT * (1 - ended) * (worth - alpha * log_density)
    critics = step(critics, (0.5 * (worths(critics, pairs) - goal.detach()) ** 2).sum(1).mean())
    a, log_density = draw(actor, pairs[:, :3])
    worth = worths(critics, torch.cat([pairs[:, :3], a], dim=1)).min(1, keepdim=True).values
    actor = step(actor, (alpha * log_density - worth).mean())
    targets = [t + sac.TAU * (p - t) for t, p in zip(targets, critics, strict=True)]
    log_alpha = np.log(alpha) + rate * float(log_density.detach().mean() - 2)
    agent.update(*batch)
    for model, expected in zip(
        (agent.actor, agent.critics, agent.targets), (actor, critics, targets), strict=True
    ):
        for mine, theirs in zip(model.parameters.values(), expected, strict=True):
            np.testing.assert_allclose(mine, theirs.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(agent.log_temperature.values, log_alpha, rtol=1e-5)


# ---- they learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_balances(seed):
    """Seeds 0 to 2 had 500 from 40,000 pushes on."""
    agent = ppo.train(seed=seed, steps=60_000, progress=False)
    assert returns(CartPole, ppo.Agent(seed).best).mean() < 200
    assert returns(CartPole, agent.best).mean() > 475


def test_dqn_learns_to_balance():
    agent = dqn.train(seed=0, steps=10_000, progress=False)
    assert returns(CartPole, dqn.Agent(0).best).mean() < 60
    assert returns(CartPole, agent.best).mean() > 150


def test_sac_learns_to_swing():
    agent = sac.train(seed=0, steps=5000, hidden=64, progress=False)
    assert sac.test(sac.Agent(3, 1)).mean() < -900
    assert sac.test(agent).mean() > -300


@pytest.mark.parametrize("example, steps", [(dqn, 1200), (ppo, 1200), (sac, 200)])
def test_agents_run_as_programs(example, steps, capsys):
    example.main([f"--steps={steps}", "--seed=3"])
    assert "of 100 episodes" in capsys.readouterr().out.splitlines()[-1]
