"""Model files and checkpoints: one file, a .npz that ``numpy.load`` opens too, without pickle.

document.py says what a file holds, archive.py how its bytes are laid out.  The same model gives the same bytes.
"""

import os

from minicnn import document
from minicnn.document import ModelFileError
from minicnn.model import Sequential

__all__ = ["ModelFileError", "load_checkpoint", "load_model", "save_checkpoint", "save_model"]


def save_model(model, path):
    """Writes ``model`` to ``path``: architecture, parameters, layer state and how it was compiled.

    The file appears whole or not at all (``write_atomically``).  Left out: a custom optimiser or loss (the model is
    then not compiled when it is loaded) and custom metrics.

    RuntimeError before ``build``; TypeError if an argument of a layer cannot be written as JSON; ValueError if a
    parameter is NaN, so that a run which went wrong does not replace its last good file; ValueError if the file would
    not give this model when it is read: a custom layer whose arguments do not make it again, or that has the name of
    one of minicnn's; OSError if the disk refuses.
    """
    document.write(path, *document.describe(model), model)


def load_model(path, custom_layers=None):
    """The model in the file ``path`` (a checkpoint will do): in eval mode, and compiled if it was when it was saved.

    ``custom_layers``: {"ClassName": class} for layers that are not minicnn's.  No code from the file is run.
    ModelFileError, which names the file, if it is anything but a whole model file; OSError if it cannot be read.
    """
    model, _ = document.read(path, Sequential, custom_layers)
    return model


def save_checkpoint(model, path, epoch, history):
    """Writes all that a run needs to continue bit for bit: what ``save_model`` writes, the optimiser's state, and

    - ``epoch``: how many epochs are done, to be the ``initial_epoch`` of the next ``fit``,
    - ``history``: a dictionary of lists of numbers, such as ``History.history``.

    Raises like ``save_model``; ValueError also if the model is not compiled, or with a custom optimiser or loss, which
    no file can hold.
    """
    document.write(path, *document.describe(model, epoch, history), model)


def load_checkpoint(path, custom_layers=None):
    """(model, epoch, history) as ``save_checkpoint`` got them: the model compiled, the optimiser's state in place.

    Arguments and errors as for ``load_model``; ModelFileError also for a model file that is no checkpoint.
    """
    model, checkpoint = document.read(path, Sequential, custom_layers)
    if checkpoint is None:
        raise ModelFileError(f"{os.fspath(path)}: is a model without the state of its training, not a checkpoint")
    return model, checkpoint["epoch"], checkpoint["history"]
