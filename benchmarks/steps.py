"""Whole training steps (SGD with momentum, cross-entropy, random data) and predictions, beside PyTorch if installed.

minicnn's step is ``train_on_batch`` on a NumPy batch, Python and checks included; PyTorch's is the usual loop on
tensors, in both of its memory layouts.  Before anything is timed, PyTorch gets minicnn's weights and must give its
outputs.
"""

import numpy as np

from benchmarks.machine import side_by_side, table
from benchmarks.models import MODELS, in_minicnn, in_torch
from minicnn import get_num_threads, layers, optimizers

BATCH = 128


def run(quick=False):
    repeats = 3 if quick else 15
    try:
        import torch
    except ImportError:
        torch = None
        print("(PyTorch is not installed: minicnn alone.  pip install torch==2.13.0, the CPU build.)\n")
    rows = []
    for name, (shape, entries) in MODELS.items():
        rng = np.random.default_rng(0)
        x, y = rng.random((BATCH, *shape), dtype=np.float32), rng.integers(0, 10, BATCH)
        model = in_minicnn(entries)
        model.compile(optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
        model.predict(x)
        steps = {"minicnn": lambda model=model, x=x, y=y: model.train_on_batch(x, y)}
        predictions = {"minicnn": lambda model=model, x=x: model.predict(x)}
        if torch is not None:
            torch.set_num_threads(get_num_threads())
            for layout in ("contiguous", "channels_last"):
                step, predict = torch_cases(torch, entries, shape, model, x, y, layout)
                steps[f"torch {layout}"], predictions[f"torch {layout}"] = step, predict
        rows.append(row(name, "step", side_by_side(steps, repeats)))
        rows.append(row(name, "predict", side_by_side(predictions, repeats)))
    print(f"## Training step and prediction at batch {BATCH}, ms (ratio: PyTorch's better layout to minicnn)\n")
    print(table(["network", "what", "minicnn", "spread", "PyTorch", "ratio"], rows))


def row(name, what, measured):
    ours, spread = measured.pop("minicnn")
    cells = [name, what, f"{ours * 1e3:.2f}", f"{100 * spread:.0f} %"]
    if not measured:
        return [*cells, "", ""]
    best = min(seconds for seconds, _ in measured.values())
    return [*cells, f"{best * 1e3:.2f}", f"{best / ours:.2f}"]


def torch_cases(torch, entries, shape, model, x, y, layout):
    """(step, predict) in PyTorch, with the weights of ``model``."""
    twin = in_torch(entries, shape)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    if layout == "channels_last":
        twin, images = twin.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    copy_weights(torch, model, twin)
    labels, loss = torch.from_numpy(y), torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9)

    def step():
        twin.train()
        sgd.zero_grad(set_to_none=True)
        value = loss(twin(images), labels)
        value.backward()
        sgd.step()
        return value.item()

    def predict():
        twin.eval()
        with torch.inference_mode():
            return twin(images).numpy()

    ours = model.predict(x)
    assert np.abs(predict() - ours).max() < 1e-3 * np.abs(ours).max()
    return step, predict


def copy_weights(torch, model, twin):
    """Our kernels are (KH, KW, C, F) and (D, M), and Flatten orders its outputs by (H, W, C), theirs by (C, H, W)."""
    theirs = [module for module in twin if list(module.parameters())]
    ours = [layer for layer in model.layers if layer.params]
    h, w, c = next(layer for layer in model.layers if isinstance(layer, layers.Flatten)).input_shape
    after_flatten = next(layer for layer in ours if isinstance(layer, layers.Dense))
    with torch.no_grad():
        for layer, module in zip(ours, theirs, strict=True):
            if isinstance(layer, layers.BatchNormalization):
                continue  # gamma and beta begin at 1 and 0 in both
            kernel = layer.params["kernel"]
            if kernel.ndim == 4:
                kernel = kernel.transpose(3, 2, 0, 1)
            elif layer is after_flatten:
                kernel = kernel.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)
            else:
                kernel = kernel.T
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            module.bias.copy_(torch.from_numpy(layer.params["bias"].copy()))
