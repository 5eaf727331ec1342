"""What a model is warned of when it is built: what is allowed, and hardly ever meant."""

import warnings

from minicnn import layers
from minicnn.outputs import from_the_end, narrow_softmax

ACTIVATIONS = (
    layers.PReLU,
    *(cls for cls in (getattr(layers, name) for name in layers.__all__) if issubclass(cls, layers.Activation)),
)


def give(chain):
    """Warns of noise on the outputs of a built chain of layers, and of a softmax over one value."""
    _warn_of_noise_at_the_end(chain)
    _warn_of_narrow_softmax(chain)


def _warn_of_noise_at_the_end(chain):
    """Dropout on the outputs hides answers instead of units: no later layer can benefit."""
    last = next((found for found in from_the_end(chain) if type(found[1]) not in ACTIVATIONS), ("0", chain[0]))
    path, noise = last
    dropped = isinstance(noise, layers.Dropout | layers.GaussianDropout | layers.DropBlock2D) and noise.rate != 0
    if dropped or (isinstance(noise, layers.GaussianNoise) and noise.stddev != 0):
        kind = "Dropout" if dropped else "Noise"
        warnings.warn(
            f"Sequential: layer {path}, {type(noise).__name__}, is the last one except for activations: in training it "
            f"puts noise on the model's outputs. {kind} belongs before a layer with parameters",
            stacklevel=4,
        )


def _warn_of_narrow_softmax(chain):
    found = narrow_softmax(chain)
    if found is not None:
        path, layer = found
        always = "log softmax over one value is always 0" if layer.output_function[:3] == "log" else (
            "softmax over one value is always 1"
        )  # fmt: skip
        warnings.warn(
            f"Sequential: layer {path}, {type(layer).__name__}: a {always} and passes no gradient. A single output "
            'needs "sigmoid"',
            stacklevel=4,
        )
