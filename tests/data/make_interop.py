"""Makes the small files of other frameworks beside it; needs torch, keras (any backend), h5py and safetensors:

    KERAS_BACKEND=torch python tests/data/make_interop.py

``interop.npz`` has images x (N, H, W, C) and what each network says to them; ``keras.zip`` the files of Keras's, which
have much air in them.
"""

import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import torch
from safetensors.torch import save
from torch import nn

HERE = Path(__file__).parent
RNG = np.random.default_rng(1)


def torch_network():
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), nn.PReLU(8), nn.Dropout(0.5), nn.Flatten()),
        *(nn.Linear(128, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 2, 2, stride=2)),
        *(nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 3)),
    ).eval()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("var") else -0.5
            tensor.copy_(torch.from_numpy(RNG.uniform(low, low + 1, tensor.shape).astype(np.float32)))
    return net


def keras_network():
    net = keras.Sequential([
        keras.Input((8, 8, 2)),
        keras.layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, activation="leaky_relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ])  # fmt: skip
    for variable in net.variables:
        low = 0.5 if "variance" in variable.path else -0.5
        variable.assign(RNG.uniform(low, low + 1, variable.shape))
    return net


if __name__ == "__main__":
    x = RNG.uniform(-1, 1, (2, 8, 8, 2)).astype(np.float32)
    ours, theirs = torch_network(), keras_network()
    (HERE / "torch.safetensors").write_bytes(save(ours.state_dict()))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(HERE / "keras.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for name, write in (
            *(("keras.keras", theirs.save), ("keras.h5", theirs.save)),
            ("keras.weights.h5", theirs.save_weights),
        ):
            write(Path(folder) / name)
            out.write(Path(folder) / name, name)
    with torch.no_grad():
        from_torch = ours(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.savez(HERE / "interop.npz", x=x, torch=from_torch, keras=theirs.predict(x, verbose=0))
