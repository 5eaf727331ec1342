"""What people give by mistake: every row is another way to do it, and says what the answer must be.

An answer is an exception of the type and with the words of the row, which name the argument and what was received; the
model is afterwards what it was, to the last bit, and trains as if nothing had happened.  What is unusual but right
gives the result of the usual form.  The file needs nothing but minicnn and NumPy: it also runs under sanitizers.
"""

import math
import os
import re
import tracemalloc

import numpy as np
import pytest
from models import IMAGE, LABELS, ONE_HOT, X, compiled, small, whole_state
from running import LAYOUTS

import minicnn as mc
from minicnn import cli, layers
from minicnn.callbacks import Callback

BIG = 2**62
FIT = {"verbose": 0}


def changed(array, place, value):
    array = np.array(array, np.float64)
    array[place] = value
    return array


def objects(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


# ---- what is given to a model: (name, what is done with it, exception, its words) ----

IMAGES = [
    ("no batch axis", X[0], ValueError, r"x must have shape \(N, 6, 5, 2\); got shape \(6, 5, 2\)"),
    ("two axes", X.reshape(12, -1), ValueError, r"got shape \(12, 60\)"),
    ("five axes", X[None], ValueError, r"got shape \(1, 12, 6, 5, 2\)"),
    ("no axis", np.float32(3), ValueError, r"got shape \(\)"),
    ("a channel too many", np.zeros((3, 6, 5, 3)), ValueError, r"got shape \(3, 6, 5, 3\)"),
    ("channels first", X.transpose(0, 3, 1, 2), ValueError, r"Channels come last here: x.transpose\(0, 2, 3, 1\)"),
    ("height and width exchanged", X.transpose(0, 2, 1, 3), ValueError, r"got shape \(12, 5, 6, 2\)"),
    ("an axis of none", np.zeros((3, 0, 5, 2)), ValueError, r"got shape \(3, 0, 5, 2\)"),
    ("complex numbers", X * 1j, TypeError, "x must be an array of numbers .*; got ndarray with dtype complex"),
    ("strings", np.full(X.shape, "1"), TypeError, "got ndarray with dtype <U1"),
    ("bytes", np.full(X.shape, b"1"), TypeError, r"got ndarray with dtype \|S1"),
    ("objects that are numbers", X.astype(object), TypeError, "got ndarray with dtype object"),
    ("None", None, TypeError, "got NoneType with dtype object"),
    ("a string", "x.npy", TypeError, "got str with dtype"),
    ("a dictionary", {"x": X}, TypeError, "got dict with dtype object"),
    ("a model", layers.ReLU(), TypeError, "got ReLU with dtype object"),
    ("dates", np.zeros(X.shape, "M8[s]"), TypeError, r"got ndarray with dtype datetime64\[s\]"),
    ("durations", np.zeros(X.shape, "m8[s]"), TypeError, "got ndarray with dtype timedelta64"),
    ("a record", np.zeros(X.shape, [("a", "f4"), ("b", "f4")]), TypeError, "x must be an array of numbers"),
    ("raw memory", np.zeros(X.shape, "V4"), TypeError, r"got ndarray with dtype \|V4"),
    ("a ragged list", [[1, 2], [3]], ValueError, "x must be a rectangular array of numbers; got a ragged one"),
    ("a masked entry", np.ma.masked_array(X, X > 0.9), TypeError, "x must have no masked entries; got a masked array"),
]
NOT_FINITE = [
    ("NaN", changed(X, (4, 1, 2, 0), math.nan), "got NaN or infinity in sample 4"),
    ("infinity", changed(X, (11, 0, 0, 0), math.inf), "got NaN or infinity in sample 11"),
    ("minus infinity", changed(X, (0, 5, 4, 1), -math.inf), "got NaN or infinity in sample 0"),
    ("too large for float32", changed(X, (7, 0, 0, 0), 1e39), "x must be finite in float32; got .* sample 7"),
    ("a long double too large", X.astype(np.longdouble) * np.longdouble(1e300), "got NaN or infinity in sample"),
]
TARGETS = [
    ("a label too few", LABELS[:11], ValueError, "x and y must have the same number of samples; got 12 and 11"),
    ("a label too many", [*LABELS, 0], ValueError, "got 12 and 13"),
    ("label = classes", changed(LABELS, 3, 4), ValueError, "got 4"),
    ("label -1", changed(LABELS, 5, -1), ValueError, "got -1"),
    ("label -100", np.full(12, -100), ValueError, "got -100"),
    ("label 2^40", LABELS + 2**40, ValueError, f"got {2**40}"),
    ("label 2^63", np.full(12, 2**63, np.uint64), ValueError, f"got {2**63}|got 9.2"),
    ("half labels", LABELS / 2 + 0.25, ValueError, r"got 0\.25"),
    ("NaN as a label", changed(LABELS, 2, math.nan), ValueError, "got nan"),
    ("inf as a label", changed(LABELS, 2, math.inf), ValueError, "got inf"),
    ("text labels", [f"class {i}" for i in LABELS], TypeError, "y must be .*numbers"),
    ("None labels", objects(*[None] * 12), TypeError, "y must be .*numbers"),
    ("labels without an axis", 3, ValueError, r"y must have a batch axis; got shape \(\)"),
    ("one-hot rows for labels", ONE_HOT, ValueError, 'got shape .12, 4.. One-hot rows need "categorical_crossentropy"'),
    ("labels as (N, 1, 1)", LABELS[:, None, None], ValueError, r"got shape \(12, 1, 1\)"),
    ("masked labels", np.ma.masked_array(LABELS, LABELS == 2), TypeError, "y must have no masked entries"),
    ("complex labels", LABELS * 1j, TypeError, "y must be .*numbers"),
]
FIT_ARGUMENTS = [
    ("batch_size 0", {"batch_size": 0}, ValueError, "batch_size must be a whole number >= 1; got 0"),
    ("batch_size -3", {"batch_size": -3}, ValueError, "batch_size .*; got -3"),
    ("batch_size 2.5", {"batch_size": 2.5}, TypeError, r"batch_size .*; got 2\.5 \(float\)"),
    ("batch_size '3'", {"batch_size": "3"}, TypeError, r"batch_size .*; got '3' \(str\)"),
    ("batch_size True", {"batch_size": True}, TypeError, "batch_size .*; got True"),
    ("epochs -1", {"epochs": -1}, ValueError, "epochs must be a whole number >= 0; got -1"),
    ("epochs 1.0", {"epochs": 1.0}, TypeError, r"epochs .*; got 1\.0"),
    ("initial_epoch -1", {"initial_epoch": -1}, ValueError, "initial_epoch .*; got -1"),
    ("validation_split 1", {"validation_split": 1.0}, ValueError, r"validation_split .*; got 1\.0"),
    ("validation_split 1.5", {"validation_split": 1.5}, ValueError, r"validation_split .*; got 1\.5"),
    ("validation_split NaN", {"validation_split": math.nan}, ValueError, "validation_split .*; got nan"),
    ("nothing left by validation_split", {"validation_split": 0.99}, ValueError, r"leave samples .* 12; got 0\.99"),
    ("validation_data alone", {"validation_data": X}, TypeError, r"validation_data must be \(x, y\).*; got ndarray"),
    ("validation_data of another shape", {"validation_data": (X[:, 1:], LABELS)}, ValueError, r"got shape \(12, 5, 5"),
    ("no validation samples", {"validation_data": (X[:0], LABELS[:0])}, ValueError, "at least one sample"),
    ("a callback that is a function", {"callbacks": [print]}, TypeError, "callbacks must be a list of .*; got .*print"),
    ("a callback's class", {"callbacks": Callback}, TypeError, "callbacks must be .*"),
    ("verbose 7", {"verbose": 7}, ValueError, "verbose must be .*; got 7"),
    ("sample weights of text", {"sample_weight": ["1"] * 12}, TypeError, "sample weights must be an array of numbers"),
    (
        "sample weights that are NaN",
        {"sample_weight": np.full(12, np.nan)},
        ValueError,
        "sample weights must be finite; got nan",
    ),
    ("too few sample weights", {"sample_weight": np.ones(3)}, ValueError, r"sample weights .*; got shape \(3,\)"),
    ("a class weight of text", {"class_weight": {0: "heavy"}}, TypeError, "weight of class 0 .*; got 'heavy'"),
    ("a class weight that is a list", {"class_weight": [1, 2]}, TypeError, "class_weight must be a dict"),
    ("a negative class weight", {"class_weight": {0: -1.0}}, ValueError, r"weight of class 0 .*; got -1\.0"),
    ("an unknown argument", {"batchsize": 3}, TypeError, "batchsize"),
]


def labels_for(x):
    return np.zeros(len(x) if isinstance(x, np.ndarray) and x.ndim else 12, np.int64)


def keys_changed(model, **more):
    state = model.state_dict()
    return {**state, **{name.replace("_", ".", 1): value for name, value in more.items()}}


ON_A_MODEL = [
    ("predict: a generator of images", lambda m: m.predict(x for x in X), ValueError, "batch 0: x must have shape"),
    ("fit: a generator and labels", lambda m: m.fit((x for x in X), LABELS, **FIT), ValueError, "y must be left out"),
    *[(f"predict: {name}", lambda m, x=x: m.predict(x), error, words) for name, x, error, words in IMAGES],
    *[(f"fit: {name}", lambda m, x=x: m.fit(x, labels_for(x), **FIT), error, f"Sequential.fit: .*{words}")
      for name, x, error, words in IMAGES],
    *[(f"fit: {name}", lambda m, x=x: m.fit(x, LABELS, batch_size=12, **FIT), ValueError, f"Sequential.fit: .*{words}")
      for name, x, words in NOT_FINITE],
    *[(f"fit: {name}", lambda m, y=y: m.fit(X, y, **FIT), error, f"Sequential.fit: .*{words}")
      for name, y, error, words in TARGETS],
    *[(f"train_on_batch: {name}", lambda m, y=y: m.train_on_batch(X, y), error, "Sequential.train_on_batch: ")
      for name, y, error, _ in TARGETS],
    *[(f"evaluate: {name}", lambda m, y=y: m.evaluate(X, y), error, "Sequential.evaluate: ")
      for name, y, error, _ in TARGETS],
    *[(f"fit: {name}", lambda m, more=more: m.fit(X, LABELS, **{**FIT, **more}), error, words)
      for name, more, error, words in FIT_ARGUMENTS],
    ("fit: no samples", lambda m: m.fit(X[:0], LABELS[:0], **FIT), ValueError, "x must have at least one sample; got"),
    ("evaluate: no samples", lambda m: m.evaluate(X[:0], LABELS[:0]), ValueError, "x must have at least one sample"),
    ("predict: 2^50 samples in the memory of one", lambda m: m.predict(np.broadcast_to(X[:1], (2**50, *IMAGE))),
     MemoryError, "Unable to allocate"),
    ("fit: 2^50 samples in the memory of one", lambda m: m.fit(np.broadcast_to(X[:1], (2**50, *IMAGE)),
     np.broadcast_to(LABELS[:1], 2**50), **FIT), MemoryError, "Unable to allocate"),
    ("fit: a batch of 2^50 in the memory of one", lambda m: m.train_on_batch(np.broadcast_to(X[:1], (2**50, *IMAGE)),
     np.broadcast_to(LABELS[:1], 2**50)), MemoryError, "Unable to allocate"),
    ("predict: batch_size 0", lambda m: m.predict(X, batch_size=0), ValueError, "batch_size .*; got 0"),
    ("predict: batch_size 1.5", lambda m: m.predict(X, batch_size=1.5), TypeError, r"batch_size .*; got 1\.5"),
    ("train: mode 1", lambda m: m.train(1), TypeError, r"mode must be True or False; got 1 \(int\)"),
    ("forward: training 'yes'", lambda m: m.forward(X, training="yes"), TypeError, "training must be .*; got 'yes'"),
    ("backward before forward", lambda m: m.backward(np.zeros((12, 4), np.float32)), RuntimeError, "needs forward"),
    ("backward after an eval forward", lambda m: (m.forward(X, training=False), m.backward(np.zeros((12, 4)))),
     RuntimeError, "needs forward"),
    ("build with another shape", lambda m: m.build((7, 5, 2)), ValueError, r"input_shape must stay \(6, 5, 2\); got"),
    ("add to a built model", lambda m: m.add(layers.ReLU()), RuntimeError, "before the model is built"),
    ("compile without a loss", lambda m: m.compile("sgd"), ValueError, "loss must be given"),
    ("compile with an unknown loss", lambda m: m.compile("sgd", "crossentropy"), ValueError, "got 'crossentropy'"),
    ("compile with an unknown optimiser", lambda m: m.compile("adm", "mse"), ValueError, "got 'adm'. Did you mean 'ad"),
    ("compile with an optimiser class", lambda m: m.compile(mc.optimizers.SGD, "mse"), TypeError, "SGD"),
    ("compile with an unknown metric", lambda m: m.compile("sgd", "mse", ["accurracy"]), ValueError, "accurracy"),
    ("compile with another model's optimiser", lambda m: m.compile(compiled().optimizer, "mse"), ValueError,
     "can train one model only"),
    ("load_state_dict: a missing name", lambda m: m.load_state_dict({}), ValueError, r"0\.kernel"),
    ("load_state_dict: a name too many", lambda m: m.load_state_dict(keys_changed(m, x=1)), ValueError, "'?x'?"),
    ("load_state_dict: another shape", lambda m: m.load_state_dict(keys_changed(m, **{"0_kernel": np.ones((2, 2))})),
     ValueError, r"0\.kernel.*\(3, 3, 2, 3\).*\(2, 2\)"),
    ("load_state_dict: NaN", lambda m: m.load_state_dict(keys_changed(m, **{"4_bias": np.full(4, np.nan)})),
     ValueError, r"4\.bias"),
    ("load_state_dict: text", lambda m: m.load_state_dict(keys_changed(m, **{"4_bias": ["a"] * 4})), TypeError,
     r"4\.bias"),
    ("load_state_dict: a list", lambda m: m.load_state_dict([1, 2]), TypeError, "list"),
    ("set_weights: one too few", lambda m: m.set_weights(m.get_weights()[:-1]), ValueError, "weights"),
    ("set_weights: another shape", lambda m: m.set_weights([w.T for w in m.get_weights()]), ValueError, "shape"),
    ("set_weights: infinity in the last", lambda m: m.set_weights([*m.get_weights()[:-1], np.full(4, np.nan)]),
     ValueError, "NaN|finite|number"),
    ("set_weights: None", lambda m: m.set_weights(None), TypeError, "None"),
    ("save to a number", lambda m: m.save(3.5), TypeError, "float"),
    ("save to nothing", lambda m: m.save(""), FileNotFoundError, "No such file"),
    ("save to a folder that is not there", lambda m: m.save("/no/such/folder/m.npz"), FileNotFoundError, "/no/such"),
    ("save to a device", lambda m: m.save(os.devnull), OSError, "Not a regular file"),
    ("loss of outputs of another shape", lambda m: m.loss(np.zeros((12, 3), np.float32), LABELS), ValueError, "3"),
    ("loss of another number of targets", lambda m: m.loss(np.zeros((5, 4), np.float32), LABELS), ValueError, "5"),
]  # fmt: skip


@pytest.fixture(scope="module")
def after_a_step():
    model = compiled()
    model.train_on_batch(X, LABELS)
    return whole_state(model)


@pytest.mark.parametrize(("do", "error", "words"), [row[1:] for row in ON_A_MODEL], ids=[row[0] for row in ON_A_MODEL])
def test_a_mistake_changes_nothing(do, error, words, after_a_step):
    model = compiled().train()
    before, optimizer = whole_state(model), model.optimizer
    with pytest.raises(error, match=words):
        do(model)
    assert whole_state(model) == before
    assert model.training is True
    assert model.optimizer is optimizer
    model.train_on_batch(X, LABELS)
    assert whole_state(model) == after_a_step


# ---- what is wrong before there is a model ----


def built(*parts, shape=IMAGE, **more):
    return mc.Sequential([*parts], **more).build(shape)


CONSTRUCTED = [
    ("filters 0", lambda: layers.Conv2D(0, 3), ValueError, "Conv2D: filters must be a whole number >= 1; got 0"),
    ("filters -1", lambda: layers.Conv2D(-1, 3), ValueError, "filters .*; got -1"),
    ("filters 2.5", lambda: layers.Conv2D(2.5, 3), TypeError, "filters .*; got 2.5"),
    ("filters 2^62", lambda: built(layers.Conv2D(BIG, 3)), ValueError, f"layer 0: Conv2D: kernel must .*, 2, {BIG}"),
    ("kernel 0", lambda: layers.Conv2D(1, 0), ValueError, "kernel_size .*; got 0"),
    ("kernel -1", lambda: layers.Conv2D(1, (3, -1)), ValueError, "kernel_size .*; got -1"),
    ("kernel '3'", lambda: layers.Conv2D(1, "3"), TypeError, "kernel_size .*; got '3'"),
    ("kernel True", lambda: layers.Conv2D(1, True), TypeError, "kernel_size .*; got True"),
    ("kernel of three numbers", lambda: layers.Conv2D(1, (3, 3, 3)), ValueError, r"kernel_size .*; got \(3, 3, 3\)"),
    ("kernel larger than the image", lambda: built(layers.Conv2D(1, 7)), ValueError, r"layer 0: Conv2D: an image must"),
    ("kernel of 2^31", lambda: layers.Conv2D(1, 2**31), ValueError, f"kernel_size must be at most .*; got {2**31}"),
    ("stride 0", lambda: layers.Conv2D(1, 3, strides=0), ValueError, "strides .*; got 0"),
    ("stride -1", lambda: layers.MaxPooling2D(2, strides=-1), ValueError, "strides .*; got -1"),
    ("dilation 0", lambda: layers.Conv2D(1, 3, dilation_rate=0), ValueError, "dilation_rate .*; got 0"),
    ("padding -1", lambda: layers.Conv2D(1, 3, padding=-1), ValueError, "padding .*; got -1"),
    ("padding 'foo'", lambda: layers.Conv2D(1, 3, padding="foo"), ValueError, "padding .*; got 'foo'"),
    ("padding beyond 2^31", lambda: built(layers.Conv2D(1, 2, padding="same", dilation_rate=2**15), shape=(9, 9, 9)),
     ValueError, "an image with its padding must have fewer than"),
    ("padding for one axis", lambda: layers.Conv2D(1, 3, padding=((1, 2), None)), TypeError, "padding .*; got None"),
    ("a pool in its padding", lambda: built(layers.MaxPooling2D(2, padding=2)), ValueError, "must see a pixel"),
    ("a multiplier of 0", lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "depth_multiplier .* 0"),
    ("a multiplier of 2^40", lambda: built(layers.DepthwiseConv2D(1, depth_multiplier=2**40)), MemoryError, "2"),
    ("separable filters None", lambda: layers.SeparableConv2D(None, 3), TypeError, "SeparableConv2D: filters .*None"),
    ("a crop of NaN", lambda: layers.Cropping2D(math.nan), TypeError, "Cropping2D: cropping .*; got nan"),
    ("a crop of all", lambda: built(layers.Cropping2D(2**15)), ValueError, "Cropping2D: .* must leave a pixel"),
    ("groups that do not divide", lambda: built(layers.Conv2D(3, 1, groups=3)), ValueError, "divisible by groups = 3"),
    ("an unknown keyword", lambda: layers.Conv2D(1, 3, stride=2), TypeError, "Did you mean `strides`"),
    ("an unknown activation", lambda: layers.Dense(1, activation="rellu"), ValueError, "got 'rellu'.*relu"),
    ("an unknown initializer", lambda: layers.Dense(1, kernel_initializer="x"), ValueError, "initializer .*; got 'x'"),
    ("a dtype of half floats", lambda: layers.Dense(1, dtype="float16"), ValueError, "dtype .*; got 'float16'"),
    ("a dtype of nonsense", lambda: mc.Sequential([], dtype="floaty"), ValueError, "dtype .*; got 'floaty'"),
    ("pool 0", lambda: layers.MaxPooling2D(0), ValueError, "pool_size .*; got 0"),
    ("pool larger than the image", lambda: built(layers.AveragePooling2D(7)), ValueError, "layer 0: AveragePooling2D"),
    ("units 0", lambda: layers.Dense(0), ValueError, "units .*; got 0"),
    ("units 2.0", lambda: layers.Dense(2.0), TypeError, "units .*; got 2.0"),
    ("units 2^40", lambda: built(layers.Flatten(), layers.Dense(2**40)), MemoryError, str(2**40)),
    ("units 2^62", lambda: built(layers.Flatten(), layers.Dense(BIG)), ValueError, rf"kernel .* \(60, {BIG}"),
    ("rate -0.1", lambda: layers.Dropout(-0.1), ValueError, r"Dropout: rate .*; got -0\.1"),
    ("rate 1.5", lambda: layers.Dropout(1.5), ValueError, r"rate .*; got 1\.5"),
    ("rate NaN", lambda: layers.Dropout(math.nan), ValueError, "rate .*; got nan"),
    ("rate inf", lambda: layers.Dropout(math.inf), ValueError, "rate .*; got inf"),
    ("rate '0.5'", lambda: layers.Dropout("0.5"), TypeError, "rate .*; got '0.5'"),
    ("rate None", lambda: layers.Dropout(None), TypeError, "rate .*; got None"),
    ("rate True", lambda: layers.Dropout(True), TypeError, "rate .*; got True"),
    ("an unknown mode", lambda: layers.Dropout(0.5, mode="both"), ValueError, "mode .*; got 'both'"),
    ("epsilon 0", lambda: layers.BatchNormalization(epsilon=0), ValueError, "epsilon .*; got 0"),
    ("momentum 2", lambda: layers.BatchNormalization(momentum=2), ValueError, "momentum .*; got 2"),
    ("a pad of -1", lambda: layers.ZeroPadding2D(-1), ValueError, "padding .*; got -1"),
    ("an impossible reshape", lambda: built(layers.Reshape((7, 7))), ValueError, "layer 0: Reshape"),
    ("a reshape to nothing", lambda: layers.Reshape((0, 3)), ValueError, "0"),
    ("a scale of NaN", lambda: layers.Rescaling(math.nan), ValueError, "scale .*; got nan"),
    ("a layer class", lambda: mc.Sequential([layers.ReLU]), TypeError, r"Did you mean ReLU\(\)"),
    ("a number for layers", lambda: mc.Sequential(3), TypeError, r"layers must be a list of layers; got 3 \(int\)"),
    ("a layer without its list", lambda: mc.Sequential(layers.ReLU()), TypeError, "layers must be a list"),
    ("a layer twice", lambda: mc.Sequential([layers.ReLU()] * 2), ValueError, "can stand in one place only"),
    ("no layers", lambda: mc.Sequential([]).build(IMAGE), ValueError, "at least one layer"),
    ("seed -1", lambda: mc.Sequential([], seed=-1), ValueError, "seed .*; got -1"),
    ("seed 2^64", lambda: mc.Sequential([], seed=2**64), ValueError, "seed .*; got 18446744073709551616"),
    ("seed 1.5", lambda: mc.Sequential([], seed=1.5), TypeError, r"seed .*; got 1\.5"),
    ("a shape with 0", lambda: built(layers.ReLU(), shape=(6, 0, 2)), ValueError, "axis of input_shape .*; got 0"),
    ("a shape with -1", lambda: built(layers.ReLU(), shape=(-1, 3)), ValueError, "axis of input_shape .*; got -1"),
    ("a shape of text", lambda: built(layers.ReLU(), shape="6x5"), TypeError, "input_shape .*; got '6x5'"),
    ("a shape with a float", lambda: built(layers.ReLU(), shape=(6.0, 5)), TypeError, r"input_shape .*; got 6\.0"),
    ("an image for Dense is not one for Conv2D", lambda: built(layers.Conv2D(1, 1), shape=(60,)), ValueError,
     r"layer 0: Conv2D: one sample must have an image .*; got \(60,\)"),
    ("a product beyond 2^63", lambda: built(layers.Flatten(), layers.Dense(1), shape=(2**31, 2**31, 2**31)),
     ValueError, rf"layer 1: Dense: kernel must have at most 2\^59 elements; got shape \({2**93}, 1\)"),
    ("a product beyond 2^31", lambda: built(layers.Conv2D(2**20, 1), layers.Flatten(), layers.Dense(2**20)),
     MemoryError, "Unable to allocate .*1048576"),
    ("lr -1", lambda: mc.optimizers.SGD(-1), ValueError, "learning_rate .*; got -1"),
    ("lr NaN", lambda: mc.optimizers.Adam(math.nan), ValueError, "learning_rate .*; got nan"),
    ("lr inf", lambda: mc.optimizers.Adam(math.inf), ValueError, "learning_rate .*; got inf"),
    ("lr '0.1'", lambda: mc.optimizers.SGD("0.1"), TypeError, r"learning_rate .*; got '0\.1'"),
    ("lr None", lambda: mc.optimizers.SGD(None), TypeError, "learning_rate .*; got None"),
    ("momentum 1.5", lambda: mc.optimizers.SGD(0.1, momentum=1.5), ValueError, r"momentum .*; got 1\.5"),
    ("weight_decay -1", lambda: mc.optimizers.AdamW(0.1, weight_decay=-1), ValueError, "weight_decay .*; got -1"),
    ("clipnorm 0", lambda: mc.optimizers.SGD(0.1, clipnorm=0), ValueError, "clipnorm .*; got 0"),
    ("predict before build", lambda: mc.Sequential([layers.ReLU()]).predict(3), ValueError, "batch axis"),
    ("count_params before build", lambda: mc.Sequential([layers.ReLU()]).count_params(), RuntimeError, "needs build"),
    ("save before build", lambda: mc.Sequential([layers.ReLU()]).save("m.npz"), RuntimeError, "needs build"),
    ("fit before compile", lambda: small().fit(X, LABELS), RuntimeError, "Sequential.fit: needs compile"),
    ("evaluate before compile", lambda: small().evaluate(X, LABELS), RuntimeError, "needs compile"),
    ("loss before compile", lambda: small().loss(ONE_HOT, LABELS), RuntimeError, "needs compile"),
    ("a step without a model", lambda: mc.optimizers.SGD(0.1).step(), RuntimeError, "model"),
    ("a layer forward before build", lambda: layers.Dense(2).forward(X), RuntimeError, "call build"),
    ("a layer backward before forward", lambda: layers.ReLU().backward(X), RuntimeError, "needs forward"),
    ("batches of different lengths", lambda: mc.datasets.batches(X, LABELS[:3]), ValueError, "same number of samples"),
    ("threads 0", lambda: mc.set_num_threads(0), ValueError, "n must be from 1 to 256; got 0"),
    ("one-hot rows that are not", lambda: compiled(loss="categorical_crossentropy").fit(X, ONE_HOT * 2, **FIT),
     ValueError, "targets of a sample must sum to 1; got 2.0 at index 0"),
    ("one-hot rows with a negative number", lambda: compiled(loss="categorical_crossentropy").fit(X, -ONE_HOT, **FIT),
     ValueError, r"targets must be numbers >= 0; got -1\.0 at index \(0, 0\)"),
    ("one-hot rows of another width",
     lambda: compiled(loss="categorical_crossentropy").fit(X, np.eye(5)[LABELS], **FIT), ValueError, r"\(12, 5\)"),
    ("targets of another shape", lambda: compiled(loss="mse").fit(X, np.zeros((12, 3)), **FIT), ValueError, r"3\)"),
    ("a batch normalisation of one value", lambda: mc.Sequential([layers.Flatten(), layers.BatchNormalization()])
     .forward(X[:1], training=True), ValueError, "at least two values of each channel"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "words"), [r[1:] for r in CONSTRUCTED], ids=[r[0] for r in CONSTRUCTED])
def test_what_cannot_be_made(make, error, words):
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words) as caught:
            make()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    refused = issubclass(
        caught.type, MemoryError
    )  # by the system: tracemalloc counts what was asked for, not what was got
    assert refused or peak < 32 << 20, "what is too large is refused before memory is taken"


# ---- what is unusual but right ----

AS_USUAL = {
    **{f"arrays that are {name}": layout for name, layout in LAYOUTS.items()},
    "a list of lists": lambda x: x.tolist(),
    "a memory view": lambda x: memoryview(np.ascontiguousarray(x)),
    "masked, but nothing is": lambda x: np.ma.masked_array(x),
    "a matrix of a subclass": lambda x: x.view(np.recarray) if x.dtype.kind == "V" else np.asarray(x).view(Subclass),
}


class Subclass(np.ndarray):
    """What it computes is not what NumPy computes."""

    def __array_ufunc__(self, *arguments, **more):
        raise AssertionError("the arithmetic of an array that was given must not be used")


@pytest.mark.parametrize("form", AS_USUAL.values(), ids=AS_USUAL)
def test_other_forms_of_the_same_numbers(form):
    x, y = X.astype(np.float64), LABELS
    want, model = compiled(), compiled()
    logs = [m.fit(*data, batch_size=5, **FIT).history for m, data in ((want, (x, y)), (model, (form(x), y.tolist())))]
    assert logs[0] == logs[1]
    assert whole_state(model) == whole_state(want)
    np.testing.assert_array_equal(model.predict(form(x)), want.predict(x))


def test_zero_strides_and_one_sample():
    model, row = compiled(), np.broadcast_to(X[3], X.shape)
    want = model.predict(X[3:4])
    assert want.shape == (1, 4)
    np.testing.assert_array_equal(model.predict(row), want.repeat(12, 0))
    models = compiled(), compiled()
    for one, x in zip(models, (row, row.copy()), strict=True):
        one.fit(x, LABELS, batch_size=1, **FIT)
    assert whole_state(models[0]) == whole_state(models[1])


def test_labels_of_every_kind_of_number():
    want = compiled()
    want.fit(X, LABELS, batch_size=5, **FIT)
    for dtype in ("u1", "i1", "<i2", ">i4", "u8", "f4", ">f8", "f2", "g"):
        for y in (LABELS.astype(dtype), LABELS.astype(dtype)[:, None], LABELS.astype(dtype)[::-1].copy()[::-1]):
            model = compiled()
            model.fit(X, y, batch_size=5, **FIT)
            assert whole_state(model) == whole_state(want)
    model, twin = compiled(), compiled()
    model.fit(X, LABELS > 1, **FIT)  # bool
    twin.fit(X, (LABELS > 1).astype(int), **FIT)
    assert whole_state(model) == whole_state(twin)


def test_integers_are_numbers():
    images = (X * 200).astype(np.uint8)
    want = compiled().predict(images.astype(np.float32))
    for dtype in ("u1", "i2", ">u2", "i4", "u8", "f2", "f8"):
        np.testing.assert_array_equal(compiled().predict(images.astype(dtype)), want)
    np.testing.assert_array_equal(compiled().predict(images > 100), compiled().predict((images > 100).astype(float)))


def test_no_samples_at_all():
    assert compiled().predict(X[:0]).shape == (0, 4)
    assert compiled().forward(X[:0]).shape == (0, 4)


def test_rates_at_their_ends():
    for rate in (0, 1):
        model = mc.Sequential([layers.Flatten(), layers.Dropout(rate), layers.Dense(4)], seed=2)
        y = model.forward(X, training=True)
        np.testing.assert_array_equal(y, model.forward(X * (1 - rate)))


# ---- wrong files and wrong command lines ----


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "page.npz").write_bytes(b"<!doctype html>")
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "bad.json").mkdir()
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "strings.npy", np.full((2, 6, 5, 2), "a"))
    np.save(tmp_path / "nan.npy", np.full((2, 6, 5, 2), np.nan))
    np.save(tmp_path / "shape.npy", np.zeros((2, 3, 5, 2)))
    with open(tmp_path / "huge.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 6, 5, 2)})
    compiled().save(tmp_path / "m.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "m.npz").read_bytes()[:500])
    return tmp_path


COMMANDS = [
    ("no verb", [], 2, "the following arguments are required: VERB"),
    ("an unknown verb", ["trian"], 2, "invalid choice: 'trian'"),
    ("an unknown option", ["train", "--epoch", "3"], 2, "unrecognized arguments: --epoch 3"),
    ("epochs x", ["train", "--epochs", "x"], 2, "--epochs: invalid whole number value: 'x'"),
    ("epochs 0", ["train", "--epochs", "0"], 2, "--epochs: must be at least 1 .*; got 0"),
    ("lr nan", ["train", "--lr", "nan"], 2, "--lr: must be .*; got nan"),
    ("lr -1", ["train", "--lr=-1"], 2, "--lr: must be .*; got -1"),
    ("dropout 1.5", ["train", "--dropout", "1.5"], 2, r"--dropout: must be .*; got 1\.5"),
    ("threads 0", ["info", "--threads", "0"], 2, "--threads: must be .*; got 0"),
    ("seed 2^70", ["train", "--seed", str(2**70)], 2, "--seed: must be .*; got 1180591620717411303424"),
    ("unknown data", ["train", "--data", "cifar"], 2, "--data: invalid choice: 'cifar'"),
    ("two folders", ["train", "--resume", "a", "--out", "b"], 2, "--resume continues in its own folder"),
    ("no model", ["evaluate"], 2, "required: MODEL"),
    ("no folder of data", ["train", "--data", "mnist", "--data-dir", "nowhere"], 1, "nowhere"),
    ("data where none are needed", ["train", "--data-dir", "."], 1, "--data-dir is for --data mnist"),
    ("an output that is a file", ["train", "--out", "empty"], 1, "empty: File exists"),
    ("a folder for a file", ["evaluate", "bad.json"], 1, "bad.json: Is a directory"),
    ("an absent model", ["evaluate", "absent.npz"], 1, "absent.npz: No such file"),
    ("an empty model", ["summary", "empty"], 1, "empty: is empty"),
    ("a page of the web", ["summary", "page.npz"], 1, "page.npz: is not a minicnn model file"),
    ("half a model", ["summary", "half.npz"], 1, "half.npz: is truncated"),
    ("a foreign archive", ["evaluate", "other.npz"], 1, "other.npz: is truncated, or is not a minicnn model file"),
    ("a model for other data", ["evaluate", "m.npz"], 1, r"must have shape \(N, 6, 5, 2\); got shape"),
    ("an absent image", ["predict", "m.npz", "absent.npy"], 1, "absent.npy: No such file"),
    ("text for an array", ["predict", "m.npz", "text.npy"], 1, r"text.npy: is not a readable \.npy file"),
    ("strings for numbers", ["predict", "m.npz", "strings.npy"], 1, "strings.npy: .*dtype <U1"),
    ("NaN in an array", ["predict", "m.npz", "nan.npy"], 1, "nan.npy: .*not finite"),
    ("another shape", ["predict", "m.npz", "shape.npy"], 1, r"shape.npy: .*got shape \(2, 3, 5, 2\)"),
    ("a header that lies", ["predict", "m.npz", "huge.npy"], 1, "huge.npy"),
    ("an empty name", ["summary", ""], 1, "No such file"),
    ("a name with a zero", ["summary", "a\0b"], 1, "null"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), [r[1:] for r in COMMANDS], ids=[r[0] for r in COMMANDS])
def test_a_wrong_command_says_so_in_one_line(arguments, status, words, folder, capsys):
    before = {path.name: path.stat() for path in folder.iterdir()}
    try:
        code = cli.main(arguments)
    except SystemExit as end:  # argparse's way
        code = end.code
    out, err = capsys.readouterr()
    assert code == status
    assert out == ""
    assert len(err.splitlines()) == 1 or status == 2, err
    assert re.search(words, err), err
    assert {path.name: path.stat() for path in folder.iterdir()}.keys() - {"minicnn-run"} == before.keys()
    assert (folder / "m.npz").stat() == before["m.npz"]
