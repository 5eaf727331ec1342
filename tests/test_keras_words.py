"""Sentences for words of Keras: where they stand, that they are not out of date, and that no name is hidden by them."""

import importlib
import inspect
import re

import pytest

import minicnn as mc
from minicnn import (
    constraints,
    initializers,
    keras_words,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from minicnn.keras_words import INSTEAD

MODULES = [where for where in INSTEAD if where and not where.startswith(("Sequential", "Layer"))]
METHODS = [where for where in INSTEAD if where.startswith("Sequential.")]


def test_no_word_of_the_table_exists():
    """One that has come into being must leave the table."""
    for where in MODULES:
        module = importlib.import_module(f"minicnn.{where}")
        assert [word for word in INSTEAD[where] if word in vars(module)] == [], where
    assert [word for word in INSTEAD[""] if word in vars(mc) or word in mc.__all__] == []
    assert [word for word in INSTEAD["Sequential"] if hasattr(mc.Sequential, word)] == []
    assert [word for word in INSTEAD["Layer"] if hasattr(mc.Layer, word)] == []
    for where in METHODS:
        known = inspect.signature(getattr(mc.Sequential, where.partition(".")[2])).parameters
        assert [word for word in INSTEAD[where] if word in known] == [], where


def test_what_the_sentences_name_exists():
    text = " ".join(sentence for words in INSTEAD.values() for sentence in words.values())
    for module, name in set(
        re.findall(r"\b(layers|models|utils|datasets|optimizers|metrics|saving|plot)\.(\w+)", text)
    ):
        assert hasattr(importlib.import_module(f"minicnn.{module}"), name), (module, name)


@pytest.mark.parametrize("where", MODULES)
def test_a_module_answers_for_its_words(where):
    module = importlib.import_module(f"minicnn.{where}")
    for word, sentence in INSTEAD[where].items():
        with pytest.raises(AttributeError) as caught:
            getattr(module, word)
        assert str(caught.value) == f"module 'minicnn.{where}' has no attribute '{word}'. In minicnn: {sentence}"
    assert not hasattr(module, "no_such_thing")


def test_the_package_and_its_models_answer_too():
    with pytest.raises(
        AttributeError, match=r"^module 'minicnn' has no attribute 'Model'. In minicnn: a model is a Se"
    ):
        _ = mc.Model
    with pytest.raises(AttributeError, match=r"^'Sequential' object has no attribute 'predict_classes'. In minicnn: "):
        _ = mc.Sequential().predict_classes


@pytest.mark.parametrize(("get", "message"), [
    (lambda: layers.Conv2d, r"module 'minicnn.layers' has no attribute 'Conv2d'. Did you mean 'Conv2D'\?"),
    (lambda: mc.Sequental, r"module 'minicnn' has no attribute 'Sequental'. Did you mean 'Sequential'\?"),
    (lambda: mc.Sequential().sumary, r"'Sequential' object has no attribute 'sumary'. Did you mean 'summary'\?"),
    (lambda: mc.qqqqq, "module 'minicnn' has no attribute 'qqqqq'"),
    (lambda: layers._Conv2D, "module 'minicnn.layers' has no attribute '_Conv2D'"),
    (lambda: mc.Sequential()._layer, "'Sequential' object has no attribute '_layer'"),
])  # fmt: skip
def test_other_names_get_the_nearest(get, message):
    with pytest.raises(AttributeError, match=f"^{message}$"):
        get()


def test_a_name_that_comes_into_being_is_not_hidden(monkeypatch):
    monkeypatch.setattr(layers, "Lambda", 1, raising=False)
    assert layers.Lambda == 1


def test_modules_and_functions_of_others_are_not_suggested():
    names = keras_words.public_names(mc.callbacks)
    assert "EarlyStopping" in names
    assert "check_logs" in names
    assert not {"np", "os", "warnings", "_Monitor"} & set(names)


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m.compile("sgd", "mse", jit_compile=True), r"compile: takes no such keyword; got `jit_compile`. In min"),
    (lambda m: m.fit([1], [1], workers=2), r"fit: takes no such keyword; got `workers`. In minicnn: one thread"),
    (lambda m: m.fit([1], [1], epoch=2), r"fit: the keywords are x, y, batch_size, .*; got `epoch`. Did you mean `epo"),
    (lambda m: m.predict([1], workers=2), r"predict: takes no such keyword; got `workers`. In minicnn: one thread"),
    (lambda m: m.evaluate([1], [1], callbacks=[]), r"evaluate: takes no such keyword; got `callbacks`. In minicnn: on"),
    (lambda m: m.summary(line_length=80), r"summary: takes no such keyword; got `line_length`. In minicnn: the table"),
    (lambda m: m.summary(qqqqq=80), r"summary: the keywords are print_fn; got `qqqqq`$"),
])  # fmt: skip
def test_keywords_that_a_method_has_not(call, message):
    with pytest.raises(TypeError, match=f"^Sequential.{message}"):
        call(mc.Sequential([layers.Dense(1)]))


@pytest.mark.parametrize("x", [mc.Input((3,)), layers.Dense(2)])
@pytest.mark.parametrize("built", [False, True])
def test_layers_are_not_called_on_one_another(x, built):
    layer = layers.Dense(4)
    if built:
        mc.Sequential([mc.Input((3,)), layer])
    with pytest.raises(TypeError, match=r"layers and models are called with arrays.*; got .*Make a chain of them, Seq"):
        layer(x)
    if isinstance(x, mc.layers.Input):
        with pytest.raises(TypeError, match="layers and models are called with arrays"):
            mc.Sequential([layers.Dense(4)])(x)


def test_signatures_are_without_what_is_only_answered_for():
    for where in METHODS:
        signature = inspect.signature(getattr(mc.Sequential, where.partition(".")[2]))
        assert all(one.kind is not one.VAR_KEYWORD for one in signature.parameters.values()), where


# ---- what Keras would call, and minicnn would not ----


def test_a_layer_without_forward_is_told_so():
    with pytest.raises(TypeError, match=r"^MCDropout: a layer computes in forward.*; got a method `call`.*predict_mc"):

        class MCDropout(layers.Dropout):
            def call(self, inputs, training=None):
                return super().call(inputs, training=True)

    class Both(mc.Layer):
        def forward(self, x, training=False):
            return self.call(x)

        def call(self, x):
            return x

    assert Both().forward(3) == 3


BASES = {
    "Sequential": (mc.Sequential,),
    "Loss": (losses.Loss, losses.MeanSquaredError),
    "Metric": (metrics.Metric, metrics.BinaryAccuracy),
    "Optimizer": (optimizers.Optimizer, optimizers.SGD),
    "Regularizer": (regularizers.Regularizer, regularizers.L2),
    "Constraint": (constraints.Constraint, constraints.MaxNorm),
    "Initializer": (initializers.Initializer, initializers.Zeros),
    "Schedule": (schedules.Schedule, schedules.CosineDecay),
}


@pytest.mark.parametrize(
    ("kind", "hook"), [(kind, hook) for kind, hooks in keras_words.HOOKS.items() for hook in hooks]
)
def test_a_class_with_a_hook_of_keras_is_told_so(kind, hook):
    for base in BASES[kind]:
        with pytest.raises(TypeError, match=f"^Mine: a {kind} has no method `{hook}` that .*; got one. In minicnn: "):
            type("Mine", (base,), {hook: lambda self, *data: None})


def test_layers_answer_for_their_words():
    layer = layers.Dense(3)
    for word, sentence in INSTEAD["Layer"].items():
        with pytest.raises(AttributeError) as caught:
            getattr(layer, word)
        assert str(caught.value) == f"'Dense' object has no attribute '{word}'. In minicnn: {sentence}"
    with pytest.raises(AttributeError, match="'Dense' object has no attribute 'nothing'"):
        _ = layer.nothing
