"""How things show themselves in a notebook, and what a run of one says."""

import copy
import html.parser
import pickle
import sys

import numpy as np
import pytest
from models import LABELS, X, compiled
from test_plot import SURE, ablated, averaging, fake, finder_of

import minicnn as mc
from minicnn import layers, notebook, plot, progress

PNG = b"\x89PNG"
MATRIX = mc.metrics.confusion_matrix([0, 1, 1], [0, 1, 0])


class Table(html.parser.HTMLParser):
    """The cells of a table, and that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in ("table", "tr", "td", "th")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag != "table":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_a_model_is_a_table():
    body = [layers.Conv2D(2, 3, padding="same", name="<script>alert('1')</script>")]
    model = mc.Sequential([layers.Input((4, 4, 2)), layers.Residual(body), layers.Flatten()], name="a & b")
    text = model._repr_html_()
    assert "<script" not in text
    assert Table(text).rows == [
        ["layer of model 'a & b'", "output shape", "params", "share", "multiply-adds"],
        ["0 Residual", "(4, 4, 2)", "38", "100.0 %", "576"],
        ["0.body.0 Conv2D \"<script>alert('1')</script>\"", "(4, 4, 2)", "38", "100.0 %", "576"],
        ["1 Flatten", "(32,)", "0", "", "0"],
        ["total", "(4, 4, 2) ->", "38", "", "576"],
    ]
    assert [text.count(f"padding-left: {indent}em") for indent in ("0.5", "2")] == [4, 1]
    assert Table(mc.Sequential([layers.Dense(2)])._repr_html_()).rows[1:] == [
        ["0 Dense", "?", "?", "", "?"],
        ["not built", "?", "?", "", "?"],
    ]


def test_a_gradient_check_is_a_table():
    found = mc.testing.gradcheck(layers.Dense(2), np.random.default_rng(0).standard_normal((3, 4)))
    head, *rows = Table(found._repr_html_()).rows
    assert head == ["gradient of", "max error", "checked", "skipped"]
    assert [row[0] for row in rows] == ["x", "kernel", "bias"]
    assert rows[1][2:] == ["8", "0"]


def history():
    model = compiled()
    return model.fit(X, LABELS, verbose=0)


PICTURED = {
    "history": history,
    "confusion matrix": lambda: MATRIX,
    "dropout curve": lambda: fake({0: [5, 5], 0.3: [3, 4]}),
    "reliability": lambda: SURE,
    "learning rates": lambda: finder_of([2.5, 1.5, 1.0]),
    "ablation": lambda: ablated([[0.9, 0.8, 0.5]], [[0.9, 0.8, 0.6]]),
    "averaging": averaging,
    "figure": lambda: plot.history({"loss": [1.0]}),
}


@pytest.mark.parametrize("name", PICTURED)
def test_what_is_a_picture(name):
    pytest.importorskip("matplotlib")
    thing = PICTURED[name]()
    if name != "figure":
        thing = pickle.loads(pickle.dumps(copy.deepcopy(thing)))
    assert thing._repr_png_().startswith(PNG)


def test_where_there_is_nothing_to_draw_the_text_is_shown(monkeypatch):
    assert mc.callbacks.History()._repr_png_() is None
    assert mc.callbacks.LearningRateFinder()._repr_png_() is None
    assert MATRIX[0]._repr_png_() is None
    assert MATRIX[:1]._repr_png_() is None
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert MATRIX._repr_png_() is None
    assert str(MATRIX) == "[[1 0]\n [1 1]]"


def test_a_confusion_matrix_is_an_array():
    assert isinstance(MATRIX, np.ndarray)
    assert isinstance(MATRIX, notebook.ConfusionMatrix)
    assert MATRIX.dtype == np.int64
    for computed in (MATRIX / 2, MATRIX == MATRIX, MATRIX.sum(0), np.asarray(MATRIX)):
        assert type(computed) is np.ndarray
    assert type(MATRIX.trace()) is np.int64
    assert MATRIX.sum() == 3
    assert MATRIX.tolist() == [[1, 0], [1, 1]]


# ---- progress ----


class Kernel:
    """What ``IPython.get_ipython()`` gives in a notebook."""

    kernel = None


def test_a_notebook_is_told_on_stdout(capsys, monkeypatch):
    assert not progress.in_notebook()
    ipython = type(sys)("IPython")
    ipython.get_ipython = lambda: None  # in a program that imports IPython
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not progress.in_notebook()
    ipython.get_ipython = Kernel
    assert progress.in_notebook()
    assert progress.verbosity("f", "auto") == 1
    compiled().fit(X, LABELS, batch_size=5, epochs=2)
    compiled().fit(X, LABELS, epochs=1, verbose=2, callbacks=[mc.callbacks.LearningRateScheduler(lambda e: 0.1, 1)])
    out, err = capsys.readouterr()
    assert "epoch 2/2: 100%" in out
    assert "epoch 1: the learning rate is 0.1" in out
    assert err == ""


CELLS = {  # the code of a cell, and the kinds of what it shows
    "import sys; sys.modules['ipywidgets'] = None  # where it is installed the bar is a widget": [],
    "import warnings; warnings.simplefilter('error')": [],
    "import numpy as np, minicnn as mc": [],
    "x, y = np.random.default_rng(0).random((20, 4, 4, 1)), np.arange(20) % 2": [],
    """def build(rate, seed):
        chain = [mc.layers.Flatten(), mc.layers.Dropout(rate), mc.layers.Dense(2, activation="softmax")]
        model = mc.Sequential(chain, seed=seed)
        model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
        return model
model = build(0.5, 0); history = model.fit(x, y, epochs=2)""": [],
    "model": ["text/html"],
    "history": ["image/png"],
    "mc.metrics.confusion_matrix(y, model.predict(x))": ["image/png"],
    "mc.tune.dropout_curve(build, x, y, rates=[0, 0.5], cv=2, epochs=1)": ["image/png"],
    "mc.calibration.reliability_curve(y, model.predict(x))": ["image/png"],
    "mc.testing.gradcheck(mc.layers.Dense(2), np.ones((2, 3)))": ["text/html"],
    "mc.plot.architecture(model)": ["image/png"],
    "sorted(name for name in dir(mc) if name[:2] == 'pl')": [],
}


def test_a_notebook_shows_it_all():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    said = ""
    for cell, kinds in zip(book.cells, CELLS.values(), strict=True):
        shown = [output for output in cell.outputs if output.output_type == "execute_result"]
        if kinds:
            assert [kind for kind in shown[0].data if kind != "text/plain"] == kinds, cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name", "stdout") == "stdout", output
            said += output.get("text", "")
    assert shown[0].data["text/plain"] == "['plot']"
    for bar in ("epoch 1/2: 100%", "epoch 2/2: 100%", "dropout curve: 100%"):
        assert bar in said
