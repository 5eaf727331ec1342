"""Made the files of tests/data/onnx, by PyTorch 2.13 (both exporters) and Keras 3.15 on top of it:

    KERAS_BACKEND=torch python tests/data/make_onnx.py

Beside each file, in expected.npz, an input of the model, channels last, and what the framework makes of it.
"""

import logging
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from keras import layers as klayers
from torch import nn

FOLDER = Path(__file__).parent / "onnx"


class Block(nn.Module):
    """A residual block that halves, with the shortcut of zeros, and a joined one behind it."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.b, self.c, self.d = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x):
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 1))
        x = torch.relu(self.b(torch.relu(self.norm(self.a(x)))) + short)
        x = torch.cat([x, nn.functional.silu(self.c(x))], 1)
        return torch.softmax(self.d(x).mean((2, 3)), 1)


def torch_nets():
    cnn = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2, padding=1), nn.Hardswish()),
        *(nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.PReLU(), nn.Linear(5, 3)),
        nn.LogSoftmax(1),
    )
    ups = nn.Sequential(
        *(
            nn.Linear(4, 12),
            nn.Unflatten(1, (3, 2, 2)),
            nn.Upsample(scale_factor=2),
            nn.ELU(0.5),
            nn.ZeroPad2d((1, 0, 0, 2)),
        ),
        *(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelShuffle(2)),
        *(nn.Softplus(), nn.Hardtanh(), nn.LeakyReLU(0.2)),
    )
    return {"cnn": (cnn, (2, 7, 7)), "block": (Block(), (3, 8, 6)), "decoder": (ups, (4,))}


def keras_nets():
    x = i = keras.Input((9, 8, 3))
    x = klayers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(klayers.Rescaling(1 / 127.5, -1)(x))
    x = klayers.BatchNormalization()(x)
    x = klayers.Add()([x, klayers.Conv2D(4, 3, padding="same")(x)])
    x = klayers.Concatenate()([klayers.ReLU()(x), klayers.DepthwiseConv2D(3, padding="same")(x)])
    x = klayers.Flatten()(klayers.MaxPooling2D(3, strides=2, padding="same")(x))
    branches = keras.Model(i, klayers.Dense(3, activation="softmax")(klayers.Dropout(0.3)(x)))
    mlp = keras.Sequential(
        [
            *(
                keras.Input((6, 6, 1)),
                klayers.Flatten(),
                klayers.Dense(6, activation="relu"),
                klayers.Reshape((3, 2, 1)),
            ),
            *(klayers.UpSampling2D(2, interpolation="bilinear"), klayers.Permute((2, 1, 3)), klayers.Cropping2D(1)),
            *(klayers.Conv2D(2, 1, activation="swish"), klayers.GlobalMaxPooling2D(), klayers.Dense(2)),
        ]
    )
    return {"branches": branches, "mlp": mlp}


def main():
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    expected = {}
    for name, (net, shape) in torch_nets().items():
        for parameter in net.parameters():
            nn.init.uniform_(parameter, -0.8, 0.8)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5), module.running_var.uniform_(0.5, 1.5)
        net.eval()
        x = torch.randn(3, *shape)
        with torch.no_grad():
            y = net(x)
        last = [one.permute(0, 2, 3, 1) if one.ndim == 4 else one for one in (x, y)]
        for exporter in ("legacy", "dynamo"):
            path = FOLDER / f"torch_{name}_{exporter}.onnx"
            if exporter == "legacy":
                torch.onnx.export(net, x, path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
            else:
                batch = ({0: torch.export.Dim("n")},)
                made = torch.onnx.export(net, (x,), dynamo=True, dynamic_shapes=batch, verbose=False).model_proto
                for node in made.graph.node:  # whole stacks of calls
                    del node.metadata_props[:]
                path.write_bytes(made.SerializeToString())
            expected[f"{path.stem}.x"], expected[f"{path.stem}.y"] = (one.numpy() for one in last)
    rng = np.random.default_rng(0)
    for name, model in keras_nets().items():
        model.set_weights([rng.uniform(0.1 if w.ndim == 1 else -0.8, 0.8, w.shape) for w in model.get_weights()])
        x = rng.uniform(0, 255 if name == "branches" else 1, (3, *model.input_shape[1:])).astype(np.float32)
        expected[f"keras_{name}.x"], expected[f"keras_{name}.y"] = x, model.predict(x, verbose=0)
        model.export(FOLDER / f"keras_{name}.onnx", format="onnx", verbose=False)
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
