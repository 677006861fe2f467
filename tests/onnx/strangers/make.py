"""Writes the files here: small networks as other programs export them, each with inputs and the
outputs that onnxruntime computes of them.

    python make.py torch     (needs torch, onnx, onnxscript, onnxruntime)
    python make.py sklearn   (needs scikit-learn, skl2onnx, onnxruntime)
    python make.py keras     (needs tensorflow, tf2onnx, onnxruntime)
"""

import sys

import numpy as np


def save(name, path, x):
    """The file's outputs for x, beside the file; labels are outputs too."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, {session.get_inputs()[0].name: x})
    names = [output.name for output in session.get_outputs()]
    for i, y in enumerate(outputs):
        if isinstance(y, list):  # of a ZipMap: a dict for each row
            outputs[i] = np.array([list(row.values()) for row in y])
        elif y.dtype == object:
            outputs[i] = y.astype(str)
    arrays = {f"y{i}": y for i, y in enumerate(outputs)}
    np.savez_compressed(f"{name}.npz", x=x, names=names, **arrays)


def without_origin(path):
    """Take out of a file where on the disk its nodes come from."""
    import onnx

    model = onnx.load(path)
    model.ClearField("metadata_props")
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output):  # fmt: skip
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


def with_torch():
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, channels, out):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, padding=1)
            self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

        def forward(self, x):
            y = self.conv2(torch.relu(self.bn1(self.conv1(x))))
            return torch.relu(y + self.shortcut(x))

    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.codes = nn.Embedding(11, 4)
            self.conv = nn.Conv1d(4, 5, 3, padding=2, dilation=2)
            self.head = nn.Linear(5 * 6, 3)

        def forward(self, x):
            y = torch.relu(self.conv(self.codes(x).transpose(1, 2)))
            return self.head(y.flatten(1))

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Linear(7, 12), nn.LayerNorm(12)
            self.inner, self.last = nn.Linear(12, 12), nn.Linear(12, 2)

        def forward(self, x):
            y = self.norm(self.first(x))
            y = y + nn.functional.gelu(self.inner(y))
            return self.last(nn.functional.mish(y)) * 3.0

    torch.manual_seed(0)
    table, images, codes = torch.randn(5, 7), torch.randn(3, 2, 9, 8), torch.randint(0, 11, (4, 6))
    models = {
        "mlp": (nn.Sequential(
            nn.Linear(7, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 8),
            nn.LeakyReLU(0.2), nn.Linear(8, 6), nn.ELU(), nn.Linear(6, 4), nn.SiLU(),
            nn.Linear(4, 3, bias=False), nn.Softmax(1)), table),
        "features": (Features(), table),
        "images": (nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.MaxPool2d(2, padding=1), nn.Conv2d(4, 4, (3, 1), padding="same", groups=2),
            nn.SELU(), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(4 * 2 * 2, 3)), images),
        "residual": (nn.Sequential(
            Bottleneck(2, 4), Bottleneck(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 3), nn.Sigmoid()), images),
        "texts": (Texts(), codes),
    }  # fmt: skip
    for name, (model, x) in models.items():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
        model.eval()
        script, dynamo = f"torch_{name}_script.onnx", f"torch_{name}_dynamo.onnx"
        torch.onnx.export(model, (x,), script, dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "batch"}})  # fmt: skip
        torch.onnx.export(model, (x,), dynamo, dynamo=True, external_data=False,
                          dynamic_shapes=({0: torch.export.Dim("batch")},))  # fmt: skip
        without_origin(dynamo)
        for path in (script, dynamo):
            save(path[:-5], path, x.numpy())


def with_sklearn():
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (40, 5)).astype(np.float32)
    three = np.array(["red", "green", "blue"])[np.digitize(x[:, 0], [1, 3])]
    two = (x[:, 1] > 2).astype(int) * 3 + 1
    both = np.column_stack([x[:, 0] > 2, x[:, 1] > 2, x[:, 2] > 2]).astype(int)
    options = {"hidden_layer_sizes": (6, 4), "max_iter": 30, "random_state": 0}
    plain = {"zipmap": False}
    models = {
        "three": (MLPClassifier(**options), three, plain),
        "three_zipmap": (MLPClassifier(**options, activation="tanh"), three, {}),
        "two": (MLPClassifier(**options, activation="logistic"), two, plain),
        "labels": (MLPClassifier(**options), both, plain),
        "value": (MLPRegressor(**options), x[:, 0] - x[:, 3], {}),
        "values": (MLPRegressor(**options), x[:, :2] - x[:, 3:], {}),
        "scaled": (make_pipeline(StandardScaler(), MLPRegressor(**options)), x[:, 0], {}),
    }
    for name, (model, y, options) in models.items():
        model.fit(x, y)
        proto = to_onnx(model, x[:1], options={id(model): options} if options else None)
        path = f"sklearn_{name}.onnx"
        with open(path, "wb") as file:
            file.write(proto.SerializeToString())
        save(path[:-5], path, x[:7])


def with_keras():
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    inputs = keras.Input((8, 9, 2))
    y = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inputs)
    z = layers.Conv2D(4, 3, padding="same", use_bias=False)(y)
    y = layers.Add()([layers.BatchNormalization()(z), y])
    y = layers.MaxPooling2D(2)(layers.Activation("relu")(y))
    y = layers.Dense(3, activation="softmax")(layers.Flatten()(y))
    models = {
        "mlp": (keras.Sequential([
            keras.Input((7,)), layers.Dense(9, activation="relu"), layers.BatchNormalization(),
            layers.Dropout(0.2), layers.Dense(8, activation="tanh"), layers.LayerNormalization(),
            layers.Dense(6, activation="swish"),
            layers.Dense(4, activation="selu"), layers.Dense(2, activation="softmax")]), (5, 7)),
        "images": (keras.Model(inputs, y), (3, 8, 9, 2)),
        "grey": (keras.Sequential([
            keras.Input((8, 8, 1)), layers.Conv2D(3, 3, activation="elu"),
            layers.DepthwiseConv2D(3, padding="same"), layers.AveragePooling2D(2),
            layers.GlobalAveragePooling2D(), layers.Dense(2, activation="sigmoid")]), (3, 8, 8, 1)),
        "sequence": (keras.Sequential([
            keras.Input((12, 2)), layers.Conv1D(4, 3, padding="causal", activation="relu"),
            layers.MaxPooling1D(2), layers.Conv1D(4, 3, dilation_rate=2), layers.ReLU(),
            layers.GlobalMaxPooling1D(), layers.Dense(2)]), (3, 12, 2)),
        "codes": (keras.Sequential([
            keras.Input((6,)), layers.Embedding(11, 4), layers.Flatten(), layers.Dense(2),
            ]), (4, 6)),
    }  # fmt: skip
    for name, (model, shape) in models.items():
        for variable in model.variables:
            noise = rng.uniform(0.1, 0.5, variable.shape) * (variable.dtype == "float32")
            variable.assign(variable + noise.astype(variable.dtype))
        x = rng.normal(size=shape).astype(np.float32)
        if name == "codes":
            x = rng.integers(0, 11, shape).astype(np.float32)
        path = f"keras_{name}.onnx"
        spec = tf.TensorSpec((None, *shape[1:]), tf.float32, name="x")
        call = tf.function(model, input_signature=[spec])
        tf2onnx.convert.from_function(
            call, input_signature=call.input_signature, opset=17, output_path=path
        )
        save(path[:-5], path, x)


{"torch": with_torch, "sklearn": with_sklearn, "keras": with_keras}[sys.argv[1]]()
