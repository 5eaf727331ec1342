"""Keras's door to models: ``from minicnn.models import Sequential, load_model``."""

from minicnn import _check
from minicnn.model import Sequential

__all__ = ["Sequential", "load_model", "model_from_json", "save_model"]


def load_model(path, custom_layers=None):
    """``saving.load_model``: the model in a file of ``Sequential.save``; runs no code from it."""
    return Sequential.load(path, custom_layers)


def save_model(model, path):
    """``saving.save_model``: what ``Sequential.save`` writes."""
    if not isinstance(model, Sequential):
        raise TypeError(_check.message("models.save_model", "model must be a Sequential", _check.kind(model)))
    model.save(path)


def model_from_json(text, custom_layers=None):
    """The model that ``Sequential.to_json`` described: the architecture, not built, without weights.

    ``custom_layers``: {"ClassName": class} for layers that are not minicnn's.  No code from the text is run.
    ValueError for a text that describes no model, TypeError for what is no text.
    """
    import json  # here: many programs never use it

    where = "models.model_from_json"
    if not isinstance(text, str):
        raise TypeError(_check.message(where, "text must be what to_json gave", _check.kind(text)))
    try:
        described = json.loads(text)
        if not isinstance(described, dict) or described.get("class_name") != "Sequential":
            raise ValueError('it has no "class_name": "Sequential"')
        return Sequential.from_config(described["config"], custom_layers)
    except Exception as error:  # of any kind: the text chose all arguments
        why = f"{type(error).__name__}: {error}"
        raise ValueError(_check.message(where, "text must be what to_json gave", text, why)) from error
