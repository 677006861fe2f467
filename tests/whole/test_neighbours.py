"""Other libraries with threads of their own in one process: all are right, whoever comes first."""

from importlib.util import find_spec
from itertools import permutations

import pytest

from processes import python

MODULES = [name for name in ("fastnn", "sklearn", "torch") if find_spec(name)]

# Each library trains by turns; then what it has learnt is compared with training by itself.
PROGRAM = """
import {order}
import hashlib
rng = np.random.default_rng(0)
X = rng.standard_normal((512, 64)).astype(np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(int)
fastnn.set_num_threads(2)

def fastnn_steps():
    model = fastnn.Sequential(
        fastnn.Dense(64, 128, activation="relu"), fastnn.Dense(128, 2), seed=0
    )
    step = fastnn.TrainStep(model, fastnn.SoftmaxCrossEntropy(), fastnn.Adam(1e-3))
    for _ in range(10):
        step(X, y)
        yield model.flat_parameters

def sklearn_steps():
    from sklearn.ensemble import HistGradientBoostingClassifier
    for _ in range(10):
        forest = HistGradientBoostingClassifier(max_iter=3, early_stopping=False, random_state=0)
        yield forest.fit(X, y).predict_proba(X)

def torch_steps():
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2)
    )
    optimizer = torch.optim.Adam(model.parameters())
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        yield np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])

steps = [globals()[f"{{name}}_steps"] for name in "{order}".split(", ")]
for turn in zip(*(step() for step in steps), strict=True):
    together = turn
for name, step, end in zip("{order}".split(", "), steps, together, strict=True):
    *_, alone = step()
    if name == "fastnn":
        print((alone == end).all(), hashlib.sha256(end.tobytes()).hexdigest())
    else:
        print(np.abs(alone - end).max() < 1e-4, name)
"""


def said_by(order, runtime):
    out = python(PROGRAM.format(order=", ".join(order)), "ignore", FASTNN_RUNTIME=runtime)
    return dict(zip(out[1::2], out[::2], strict=True))


@pytest.mark.parametrize("order", list(permutations(MODULES)), ids=" ".join)
def test_libraries_train_by_turns_in_one_process(order, runtime):
    said = said_by(order, runtime)
    assert set(said.values()) == {"True"} and len(said) == len(MODULES), said
