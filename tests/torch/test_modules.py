"""Whole networks from PyTorch and for it, where that is installed."""

import numpy as np
import pytest

import fastnn
from fastnn import (
    ELU,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Block,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool1D,
    GlobalMaxPool2D,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool1D,
    MaxPool2D,
    PeriodicEmbedding,
    Residual,
    Scale,
    Sequential,
    Softmax,
    Softplus,
)
from fastnn.torch import from_module, load_state_dict, state_dict, to_module
from optional import import_quietly

torch = import_quietly("torch")
nn = torch.nn

torch.set_num_threads(1)  # its threads and fastnn's would compete


def last(x, name=""):
    """Channels behind, as fastnn takes them."""
    if name == "last axis":  # it has no channels, but rows of features
        return x.numpy()
    return np.moveaxis(x.numpy(), 1, -1) if x.ndim > 2 else x.numpy()


# name -> (modules, inputs, channels)
MODULES = {
    "dense": (lambda: [nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5, bias=False), nn.LayerNorm(5)],
              (5,), None),
    "images": (lambda: [
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2)), nn.BatchNorm2d(4, 1e-3, 0.3),
        nn.LeakyReLU(0.2), nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding="same", bias=False),
        nn.AvgPool2d((2, 1), padding=(1, 0)), nn.Dropout(), nn.Flatten(),
        nn.BatchNorm1d(72), nn.Linear(72, 7), nn.Softmax(-1),
    ], (3, 9, 8), None),
    "sequences": (lambda: [
        nn.Conv1d(2, 4, 3, padding=1), nn.GELU(), nn.BatchNorm1d(4), nn.MaxPool1d(2),
        nn.AvgPool1d(2, 1, 1, count_include_pad=False), nn.Conv1d(4, 3, 2), nn.Softmax(1),
        nn.Flatten(), nn.Softplus(), nn.Linear(12, 2),
    ], (2, 9), None),
    "within": (lambda: [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.Flatten())),
                        nn.SELU(), nn.Sequential(nn.Linear(18, 18), nn.Identity()), nn.Mish()],
               (1, 5, 5), None),
    "global": (lambda: [nn.Conv2d(2, 3, 2), nn.AdaptiveMaxPool2d(1), nn.SiLU(), nn.Flatten(),
                        nn.Linear(3, 3), nn.ELU(0.5), nn.Sigmoid()], (2, 4, 4), None),
    "at once": (lambda: [nn.Flatten(), nn.Linear(12, 2)], (3, 2, 2), 3),
    "last axis": (lambda: [nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 2)], (3, 4), None),
    "no parameters": (lambda: [nn.BatchNorm1d(4, affine=False), nn.LayerNorm(4,
                      elementwise_affine=False), nn.LayerNorm(4, bias=False)], (4,), None),
}  # fmt: skip


def module_of(name, dtype=torch.float32):
    make, shape, channels = MODULES[name]
    torch.manual_seed(0)
    module, x = nn.Sequential(*make()).to(dtype), torch.randn(5, *shape, dtype=dtype)
    for array in module.state_dict().values():
        if array.is_floating_point():
            array.copy_(torch.rand_like(array) + 0.2 - 0.5 * (array.ndim > 1))
    return module.eval(), x, channels


@pytest.mark.parametrize("dim", [1, -3])
def test_a_norm_of_images_tells_of_images(dim):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.copy_(torch.randn(3))
    rest = [nn.Softmax(dim), nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 2), nn.LayerNorm(2)]
    module, x = nn.Sequential(nn.ReLU(), norm, *rest).eval(), torch.randn(5, 3, 2, 2)
    model = from_module(module)
    np.testing.assert_allclose(model.predict(last(x)), module(x).detach(), rtol=0, atol=1e-5)
    assert type(to_module(model)[1]) is nn.BatchNorm1d  # for the model no layer tells it


def norms(module):
    return [m for m in module.modules() if hasattr(m, "eps")]


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name, dtype, rtol):
    module, x, channels = module_of(name, dtype)
    y = module(x).detach()
    model = from_module(module, channels=channels)
    got = model.predict(last(x, name))
    rtol = 3e-9 if name == "sequences" and rtol < 1e-9 else rtol  # Softplus is x beyond 20
    np.testing.assert_allclose(got, last(y), rtol=rtol, atol=rtol * abs(got).max())
    back = to_module(model, channels=channels)
    assert not back.training
    np.testing.assert_allclose(back(x).detach(), y, rtol=rtol, atol=rtol * abs(got).max())
    if name != "no parameters":
        arrays = [a for a in module.state_dict().values() if a.ndim]
        theirs = [a for a in back.state_dict().values() if a.ndim]
        assert all(torch.equal(a, b) for a, b in zip(arrays, theirs, strict=True))
    for norm, other in zip(norms(module), norms(back), strict=True):
        assert (norm.eps, getattr(norm, "momentum", 0)) == (
            other.eps,
            getattr(other, "momentum", 0),
        )
    again = from_module(back, channels=channels)
    np.testing.assert_array_equal(again.flat_parameters, model.flat_parameters)
    np.testing.assert_array_equal(again.predict(last(x, name)), got)


# name -> (layers, shape of a row)
LAYERS = {
    "dense": (
        lambda: [
            Dense(4, 4, "tanh"),
            Block(Dense(4, 4, bias=False), Dropout(0.5)),
            Softplus(),
            Dense(4, 3, "softmax"),
        ],
        (4,),
    ),
    "images": (
        lambda: [
            Conv2D(2, 4, 3, 2, padding=1, activation=LeakyReLU(0.3)),
            BatchNorm(4),
            MaxPool2D((2, 1)),
            AvgPool2D(2, 1, 1, count_padding=True),
            Softmax(),
            GlobalMaxPool2D(),
            LayerNorm(4),
            ELU(0.4),
            Dense(4, 2),
        ],
        (9, 9, 2),
    ),
    "sequences": (
        lambda: [
            Conv1D(2, 6, 3, padding="same", groups=2, activation="gelu"),
            AvgPool1D(2),
            MaxPool1D(2, 1),
            Flatten(),
            Linear(),
            Dense(18, 18, "relu"),
            Dense(18, 2),
        ],
        (8, 2),
    ),
    "codes": (lambda: [Embedding(6, 3), Softmax(), Flatten(), Dense(12, 12)], (4,)),
    "global": (lambda: [Conv1D(2, 3, 2), GlobalAvgPool1D()], (6, 2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_from_here_and_back(name, dtype, rng):
    make, row = LAYERS[name]
    model = Sequential(*make(), seed=1, dtype=dtype)
    model.flat_parameters += 0.1 * rng.standard_normal(model.flat_parameters.size)
    for array in model.state.values():
        array[...] = rng.uniform(0.5, 2, array.shape)
    x = rng.standard_normal((5, *row)).astype(dtype)
    x = np.abs(10 * x).astype(int) % 6 if name == "codes" else x
    y = model.predict(x)
    random = torch.random.get_rng_state()
    module = to_module(model)
    assert torch.equal(random, torch.random.get_rng_state())
    theirs = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy() if x.ndim > 2 else x))
    rtol = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(y, last(theirs.detach()), rtol=rtol, atol=rtol * abs(y).max())
    again = from_module(module)
    np.testing.assert_array_equal(again.predict(x), y)
    ours, theirs = ({**m.parameters, **m.state} for m in (model, again))
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_states_go_both_ways():
    module, x, _ = module_of("images")
    model = from_module(module)
    model.flat_parameters[...] = 0
    state = {f"net.{name}": tensor for name, tensor in module.state_dict().items()}
    load_state_dict(model, {k: v.requires_grad_() if v.ndim else v for k, v in state.items()})
    y = module(x).detach().numpy()
    np.testing.assert_allclose(model.predict(last(x)), y, 1e-6, 1e-6)
    other = nn.Sequential(*MODULES["images"][0]()).eval()
    other.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(model).items()})
    assert torch.equal(other(x), module(x))
    with pytest.raises(TypeError, match=r"state: 0.weight: .*tensor.float\(\)"):
        load_state_dict(model, {"0.weight": torch.ones(2, dtype=torch.bfloat16)})


def hooked(kind):
    module = nn.Sequential(nn.Linear(2, 2))
    if kind == "hook":
        module[0].register_forward_hook(lambda *args: None)
    elif kind == "outer":
        module.register_forward_pre_hook(lambda *args: None)
    else:
        module[0].forward = lambda x: x
    return module


shared = nn.Linear(2, 2)


@pytest.mark.parametrize("module, message", [
    (nn.Linear(2, 2), "expected an nn.Sequential"),
    (nn.Sequential(), "it has no modules"),
    (nn.Sequential(nn.Linear(2, 2), nn.Sequential()), "1 has no modules"),
    (nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)), r"1, LSTM\(2, 2\): no layer of fastnn's"),
    (nn.Sequential(nn.ReLU6()), "no layer of fastnn's"),
    (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "padding_mode='circ"),
    (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)), "track_running_stats=False"),
    (nn.Sequential(nn.BatchNorm1d(2, momentum=None)), "momentum"),
    (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode=True"),
    (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "dilation=2"),
    (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "divisor_override=3"),
    (nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), "output_size=2"),
    (nn.Sequential(nn.AdaptiveAvgPool2d(1)), "expected a Flatten behind"),
    (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Linear(2, 2), nn.Flatten()), "expected a Flatten"),
    (nn.Sequential(nn.Flatten(2)), "start_dim=2"),
    (nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), "pass channels=1"),
    (nn.Sequential(nn.GELU("tanh")), "approximate='tanh'"),
    (nn.Sequential(nn.Softplus(2)), "beta=2"),
    (nn.Sequential(nn.Softplus(threshold=5)), "expected a threshold"),
    (nn.Sequential(nn.Embedding(3, 2, max_norm=1.0)), "max_norm=1.0"),
    (nn.Sequential(nn.Embedding(3, 2), nn.Conv1d(2, 2, 1)), "Embedding's features last"),
    (nn.Sequential(nn.Embedding(3, 2), nn.BatchNorm1d(2)), "Embedding's features last"),
    (nn.Sequential(nn.Conv2d(1, 4, 1), nn.LayerNorm(4)), "does not run over channels"),
    (nn.Sequential(nn.BatchNorm2d(4), nn.LayerNorm(4)), "1, LayerNorm.* not run over channels"),
    (nn.Sequential(nn.LayerNorm(4), nn.BatchNorm2d(4)), "0, LayerNorm.* not run over channels"),
    (nn.Sequential(nn.ReLU(), nn.Sequential(nn.BatchNorm2d(4)), nn.Softmax(-1)), "expected dim=1"),
    (nn.Sequential(nn.BatchNorm2d(4), nn.Linear(4, 4)), "0, BatchNorm2d.* takes images alone"),
    (nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm1d(4)), "1, BatchNorm1d.* takes no images"),
    (nn.Sequential(nn.LayerNorm((3, 4))), "the last axis alone"),
    (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Softmax(-1)), "expected dim=1"),
    (nn.Sequential(nn.Linear(2, 2), nn.Softmax(0)), "expected dim=1"),
    (nn.Sequential(nn.Softmax(-1)), "expected dim=1"),
    (nn.Sequential(nn.Dropout2d()), "no layer"),
    (nn.Sequential(shared, shared), "share parameters"),
    (nn.Sequential(nn.Linear(2, 2).half()), "got float16"),
    (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "float32, float64"),
    (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), "no layer"),
    (hooked("hook"), "0 has hooks"), (hooked("outer"), "it has hooks"),
    (hooked("own"), "0 has hooks"),
])  # fmt: skip
def test_what_no_layer_is_exactly_is_refused(module, message):
    with pytest.raises((TypeError, ValueError), match=rf"(?s)(module|channels): .*{message}"):
        from_module(module)


@pytest.mark.parametrize("layers, message", [
    (lambda: [Residual(Dense(2, 2))], "Residual.* no like"),
    (lambda: [Scale(2)], "Scale.* no like"), (lambda: [PeriodicEmbedding(2)], "no like"),
    (lambda: [Conv2D(1, 1, 2, padding=(0, 1, 0, 1))], r"no padding=\(0, 1, 0, 1\)"),
    (lambda: [Conv2D(1, 1, 2, stride=2, padding="same")], "'same' with a stride"),
    (lambda: [MaxPool2D(2, padding="same")], "no padding='same'"),
    (lambda: [MaxPool2D(3, padding=2)], "half their kernel"),
    (lambda: [Conv2D(1, 2, 1), LayerNorm(2)], "does not run over channels"),
    (lambda: [Embedding(3, 2), MaxPool1D(2)], "features last"),
    (lambda: [Flatten(), Dense(4, 1)], "pass channels=1"),
])  # fmt: skip
def test_what_no_module_is_exactly_is_refused(layers, message):
    with pytest.raises((TypeError, ValueError), match=rf"(model|channels): .*{message}"):
        to_module(Sequential(*layers()))
    with pytest.raises(TypeError, match="model: expected a Sequential"):
        to_module(fastnn.Dense(2, 2))
