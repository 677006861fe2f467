"""Which weights train, how fast, and their averages, against PyTorch, where that is installed."""

import warnings

import numpy as np
import pytest

import fastnn
from fastnn import BatchNorm, Dense, LayerNorm, Sequential, SoftmaxCrossEntropy, Tanh
from fastnn.torch import state_dict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch warns at import
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    swa_utils = pytest.importorskip("torch.optim.swa_utils")
nn = torch.nn

torch.set_num_threads(1)  # its threads and fastnn's would compete
ROWS, STEPS = 24, 20


def pair():
    """The same network twice; PyTorch's running variance is unbiased, so its norm has momentum 0
    where running statistics are not compared."""
    model = Sequential(
        Dense(8, 16), BatchNorm(16), Tanh(), LayerNorm(16), Dense(16, 3), seed=1, dtype="float64"
    )
    rng = np.random.default_rng(5)
    model.layers[1].running_mean[...] = rng.standard_normal(16)
    model.layers[1].running_var[...] = rng.uniform(0.5, 2, 16)
    theirs = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 3)
    ).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(model).items()})
    return model, theirs


def batches(seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((ROWS, 8)), rng.integers(0, 3, ROWS)) for _ in range(STEPS)]


def assert_same_weights(model, theirs, rtol=1e-6):
    ours = state_dict(model)
    for name, tensor in theirs.named_parameters():
        np.testing.assert_allclose(ours[name], tensor.detach().numpy(), rtol, 1e-9)


def train(model, step, theirs, optimizer, clip=None, penalty=None, after=None):
    for x, y in batches():
        value = step(x, y)
        optimizer.zero_grad()
        their_value = nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        if penalty is not None:
            their_value = their_value + penalty(theirs)
        their_value.backward()
        np.testing.assert_allclose(value, their_value.item(), rtol=1e-7)
        if clip is not None:
            nn.utils.clip_grad_value_(theirs.parameters(), clip)
        optimizer.step()
        if after is not None:
            after()


@pytest.mark.parametrize("frozen", [(0,), (1,), (3,), (0, 1), (4,), (1, 3)])
def test_frozen_layers(frozen):
    """PyTorch's are in evaluation and need no gradients."""
    model, theirs = pair()
    before = model.state_dict()
    for i in frozen:
        model.layers[i].trainable = False
        theirs[i].eval()
        for tensor in theirs[i].parameters():
            tensor.requires_grad_(False)
    optimizer = fastnn.AdamW(0.01, weight_decay=0.1)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.1)
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), optimizer)
    train(model, step, theirs, their_optimizer)
    assert_same_weights(model, theirs)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]) == (int(name[0]) in frozen)


def test_groups_of_parameters():
    model, theirs = pair()
    optimizer = fastnn.AdamW(
        0.01, weight_decay=0.1, learning_rate_factors={"0.*": 0.1, "4.bias": 3.0},
        weight_decay_factors={"*.bias": 0.0, "*.gamma": 0.0, "*.beta": 0.0, "4.weight": 2.0},
    )  # fmt: skip
    groups = [
        {"params": [theirs[0].weight], "lr": 0.001},
        {"params": [theirs[0].bias], "lr": 0.001, "weight_decay": 0.0},
        {"params": [*theirs[1].parameters(), *theirs[3].parameters()], "weight_decay": 0.0},
        {"params": [theirs[4].weight], "weight_decay": 0.2},
        {"params": [theirs[4].bias], "lr": 0.03, "weight_decay": 0.0},
    ]
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), optimizer)
    train(model, step, theirs, torch.optim.AdamW(groups, 0.01, weight_decay=0.1))
    assert_same_weights(model, theirs)


def test_clipping_by_value():
    model, theirs = pair()
    optimizer = fastnn.Momentum(0.1, clip_value=0.01)
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), optimizer)
    train(model, step, theirs, torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9), clip=0.01)
    assert_same_weights(model, theirs)


def test_l1():
    model, theirs = pair()
    model.layers[0].l1, model.layers[4].l1 = 0.5, 2.0
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), fastnn.SGD(0.1))

    def penalty(net):
        return (0.5 * net[0].weight.abs().sum() + 2.0 * net[4].weight.abs().sum()) / ROWS

    train(model, step, theirs, torch.optim.SGD(theirs.parameters(), 0.1), penalty=penalty)
    assert_same_weights(model, theirs)


def test_the_exponential_moving_average():
    """PyTorch's begins with the first weights and is not corrected; with fastnn's rate it is."""
    model, theirs = pair()
    average = fastnn.ExponentialMovingAverage(0.9)

    def corrected(averages, news, number):
        rate = (1 - 0.9) / (1 - 0.9 ** (float(number) + 1))
        for mean, new in zip(averages, news, strict=True):
            mean.lerp_(new, rate)

    their_average = swa_utils.AveragedModel(theirs, multi_avg_fn=corrected)
    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), fastnn.Adam(0.01), average=average)
    optimizer = torch.optim.Adam(theirs.parameters(), 0.01)
    train(model, step, theirs, optimizer, after=lambda: their_average.update_parameters(theirs))
    assert_same_weights(model, theirs)
    own = model.flat_parameters.copy()
    with average.applied():
        assert (model.flat_parameters != own).any()
        assert_same_weights(model, their_average.module)


def test_the_mean_of_the_weights_and_its_batch_norm():
    model, theirs = pair()
    average, their_average = fastnn.StochasticWeightAverage(1), swa_utils.AveragedModel(theirs)

    def both():
        average.update(model)
        their_average.update_parameters(theirs)

    step = fastnn.TrainStep(model, SoftmaxCrossEntropy(), fastnn.Adam(0.01))
    train(model, step, theirs, torch.optim.Adam(theirs.parameters(), 0.01), after=both)
    x = np.random.default_rng(3).standard_normal((100, 8))
    order = np.random.default_rng(0).permutation(100)
    loader = [torch.tensor(x[order[i : i + 20]]) for i in range(0, 100, 20)]
    swa_utils.update_bn(loader, their_average)
    with average.applied():
        fastnn.update_batch_norm(model, x, batch_size=20)
        assert_same_weights(model, their_average.module)
        norm = their_average.module[1]
        np.testing.assert_allclose(model.layers[1].running_mean, norm.running_mean, 1e-7, 1e-12)
        biased = norm.running_var * 19 / 20
        np.testing.assert_allclose(model.layers[1].running_var, biased, 1e-7)
