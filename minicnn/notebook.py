"""How things show themselves in a notebook: as pictures that ``plot`` draws, and as tables."""

import html
import importlib

import numpy as np


class Pictured:
    """A base for what is a picture in a notebook: ``_picture`` names the function of ``plot`` that draws it."""

    _picture: str

    def _repr_png_(self):
        """The picture, or None, for which a notebook shows the text: where matplotlib is not installed, or where there
        is nothing to draw yet."""
        plot = importlib.import_module("minicnn.plot")  # by its name: plot stands above all that it draws
        try:
            return getattr(plot, self._picture)(self)._repr_png_()
        except (ImportError, ValueError):
            return None


class ConfusionMatrix(Pictured, np.ndarray):
    """What ``metrics.confusion_matrix`` gives: an array (classes, classes), rows the true classes, that is a picture in
    a notebook.  What is computed from it is a plain array."""

    _picture = "confusion_matrix"

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if return_scalar else np.asarray(array)


def table(head, rows, foot=()):
    """A table in HTML; all texts are escaped.  Rows begin with (depth, text), which is indented."""
    lines = [_line("th", ((0, head[0]), *head[1:]))]
    lines += [_line("td", row) for row in rows] + [_line("th", row) for row in foot]
    return f"<table>{''.join(lines)}</table>"


def _line(kind, cells):
    (depth, first), *others = cells
    shown = (
        f'<{kind} style="text-align: left; padding-left: {0.5 + 1.5 * depth:g}em">{html.escape(str(first))}</{kind}>'
    )
    for cell in others:
        shown += f'<{kind} style="text-align: right">{html.escape(str(cell))}</{kind}>'
    return f"<tr>{shown}</tr>"
