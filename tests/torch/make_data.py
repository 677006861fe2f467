"""Makes the files in data/, which test_state.py reads, with PyTorch and safetensors."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

DATA, nn = Path(__file__).parent / "data", torch.nn


class Named(nn.Module):
    """A network with names of its own, and every kind of array."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, (3, 2), groups=2), nn.BatchNorm2d(4)
        self.scale, self.fc1 = nn.LayerNorm(6), nn.Linear(4 * 3 * 5, 6)
        self.fc2 = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = self.scale(torch.tanh(self.fc1(torch.flatten(nn.functional.max_pool2d(x, 2), 1))))
        return self.fc2(x)


class Codes(nn.Module):
    """An embedding, and a convolution over its sequences."""

    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(7, 3), nn.Conv1d(3, 4, 3, dilation=2)
        self.out = nn.Linear(4 * 5, 2)

    def forward(self, x):
        x = torch.sigmoid(self.conv(self.table(x).transpose(1, 2)))
        return self.out(torch.flatten(x, 1))


def numbered():
    """Square layers, as nn.Sequential numbers them, over ten."""
    parts = [part for _ in range(6) for part in (nn.Linear(4, 4), nn.Tanh())]
    return nn.Sequential(*parts, nn.Linear(4, 4, bias=False))


def main():
    torch.manual_seed(0)
    found = {}
    for make, x in ((Named, torch.randn(3, 2, 8, 11)), (Codes, torch.randint(0, 7, (3, 9))),
                    (numbered, torch.randn(3, 4))):  # fmt: skip
        model, name = make(), make.__name__.lower()
        with torch.no_grad():
            for array in model.state_dict().values():
                if array.is_floating_point():
                    array.copy_(torch.rand_like(array) - 0.4 * (array.ndim > 1) + 0.2)
            found[f"{name}_x"], found[f"{name}_y"] = x.numpy(), model.eval()(x).numpy()
        save_file(model.state_dict(), DATA / f"{name}.safetensors")
        np.savez(DATA / f"{name}.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    np.savez(DATA / "expected.npz", **found)


if __name__ == "__main__":
    main()
