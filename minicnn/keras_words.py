"""Words of Keras that minicnn has not: the sentence that says what to write instead.

One table, ``INSTEAD``: {where: {word: sentence}}.  "layers" and the like are modules, "" is minicnn itself,
"Sequential" the attributes of a model, "Sequential.fit" keywords of a method.  It is asked only for what is not there,
so it can never hide a word that comes into being; tests/test_keras_words.py sees that such an entry goes.

Keywords of constructors are answered where they are checked: ``_check.keywords``, and ``losses.py`` for those of
losses.  docs/keras.md has all that does work.
"""

import inspect
import sys
import types

from minicnn import _check

_FUNCTIONAL = "a chain branches by layers.Residual(body, shortcut) and layers.Concurrent(branches): docs/branches.md"
_SUM = "a chain branches by layers.Residual(body, shortcut), whose output is the sum: docs/branches.md"
_GATE = "branches that meet in another way than a sum are a layers.Composite: docs/branches.md has a product"
_CONCATENATION = "a chain branches by layers.Concurrent(branches), which joins the channels: docs/branches.md"
_CUSTOM = "write a custom layer, a subclass of minicnn.Layer with forward and backward: examples/own_layer.py"
_PICTURES = (
    "datasets.image_folder(path, image_size) reads a folder of pictures, datasets.images.read_image(path, shape) one"
)
_AUGMENT = (
    "docs/augmentation.md has those there are; write a custom layer that does it in training: examples/own_layer.py"
)
_ONE_AXIS = "{0}2D works on samples of shape (length, 1, channels), with a window (size, 1)"
_RECURRENT = "there are no recurrent layers"
_ATTENTION = "there are no attention layers"
_EMBEDDING = "there is no embedding; layers.Dense takes the rows of utils.to_categorical"
_NO_SWITCH = "there is nothing to switch: every step is compiled and recorded, and there is no graph"
_ONE_OUTPUT = "a model has one output, so its loss has no weights; samples have sample_weight and class_weight in fit"
_NOT_HERE = "these data are not at hand; datasets.digits comes with the package, and fit takes any arrays"
_BATCHES = "fit takes any object with __len__ and __getitem__(i) -> (x, y), and iterators: docs/data.md"
_ONE_THREAD = "one thread prepares the next batch, or none where the data have an attribute workers = 0"
_HISTORY = "CSVLogger writes the numbers of every epoch, and plot.history draws them; others' loggers: docs/training.md"
_COUNTS = "metrics.confusion_matrix(y, model.predict(x)) counts what it is made of"
_ARRAYS = "arrays are NumPy's: use numpy"
_LOOP = "write the loop yourself, forward, loss, backward, optimizer.step: examples/training_loop.py"
_NO_OPTIMISER = "there is no optimiser of that name"


_PARAMS = "params are the arrays by name; get_weights() gives copies of them"
_METRIC = "a metric is a function (y_true, y_pred) -> number, or a class with reset, update and result: metrics.Metric"
_UP_TO = "a part of a model is run by hand, for layer in model.layers[:3]: x = layer(x); see docs/keras.md, Recipes"


def _same(sentence, *words):
    return dict.fromkeys(words, sentence)


INSTEAD = {
    "": {
        **_same(f"a model is a Sequential; {_FUNCTIONAL}; {_UP_TO}", "Model", "Functional"),
        **_same(_LOOP, "GradientTape"),
        **_same(_ARRAYS, "backend", "ops", "KerasTensor", "Variable"),
        **_same(_PICTURES, "preprocessing"),
        **_same("random numbers are functions of Sequential(seed=), of layers and of steps", "random"),
        **_same("dtype='float64' of Sequential sets it for one model", "config", "mixed_precision", "dtype_policies"),
        **_same("there are no networks that are trained already", "applications"),
        "saving_lib": "saving.save_model and saving.load_model",
        "wrappers": "there is no interface to scikit-learn",
        "distribution": "one process trains one model, on all of its CPUs: set_num_threads",
    },
    "layers": {
        "Layer": "the base of custom layers is minicnn.Layer, with forward and backward: examples/own_layer.py",
        **_same(_SUM, "Add", "add"),
        **_same(_GATE, "Multiply", "multiply", "Average", "average", "Subtract", "subtract", "Dot", "dot"),
        **_same(_GATE, "Maximum", "maximum", "Minimum", "minimum"),
        **_same(_CUSTOM, "UnitNormalization", "RMSNormalization"),
        **_same(_CONCATENATION, "Concatenate", "concatenate"),
        **_same(_CUSTOM, "Lambda", "Masking", "RepeatVector", "TimeDistributed", "Wrapper", "TFSMLayer"),
        **_same(_RECURRENT, "LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "LSTMCell", "GRUCell", "ConvLSTM2D"),
        **_same(_ATTENTION, "Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
        **_same(_EMBEDDING, "Embedding", "StringLookup", "IntegerLookup", "TextVectorization", "CategoryEncoding"),
        **{f"{kind}1D": _ONE_AXIS.format(kind) for kind in ("Conv", "MaxPooling", "AveragePooling", "ZeroPadding")},
        **_same(_ONE_AXIS.format("MaxPooling"), "MaxPool1D"),
        **_same(_ONE_AXIS.format("AveragePooling"), "AvgPool1D"),
        **_same(_ONE_AXIS.format("GlobalMaxPooling"), "GlobalMaxPooling1D", "GlobalMaxPool1D"),
        **_same(_ONE_AXIS.format("GlobalAveragePooling"), "GlobalAveragePooling1D", "GlobalAvgPool1D"),
        **_same("samples are images of two axes: there is no third one", "Conv3D", "MaxPooling3D", "AveragePooling3D"),
        "MixUp": "fit(mix=augment.MixUp(alpha)), for it changes labels too",
        "CutMix": "fit(mix=augment.CutMix(alpha)), for it changes labels too",
        **_same(_AUGMENT, "RandomHue", "RandomSaturation", "RandomColorJitter", "RandomGrayscale", "RandomInvert"),
        **_same(_AUGMENT, "RandomShear", "RandomAffine", "RandomPerspective", "RandomElasticTransform", "RandAugment"),
        **_same(_AUGMENT, "RandomSharpness", "RandomPosterization", "RandomGaussianBlur", "AugMix", "AutoContrast"),
        **_same("layers.RandomZoom(height_factor, width_factor)", "RandomHeight", "RandomWidth"),
        "SpatialDropout1D": _ONE_AXIS.format("SpatialDropout").partition(", with")[0],
        "SpatialDropout3D": "samples are images of two axes: there is no third one",
        "CenterCrop": "layers.Cropping2D(cropping); layers.RandomCrop(height, width) takes the middle in evaluation",
    },
    "Layer": {
        **_same(_UP_TO, "input", "output"),
        **_same('params["kernel"] and its like, by name, or get_weights()', "kernel", "bias", "gamma", "beta"),
        **_same(_PARAMS, "weights", "variables", "trainable_weights", "trainable_variables"),
        "non_trainable_weights": "state holds what is not trained, by name",
        "count_params": "sum(a.size for a in layer.params.values()), or Sequential.summary",
        "from_config": "type(layer)(**layer.get_config())",
        "add_weight": "add_param(name, shape, initializer, rng), in build: examples/own_layer.py",
        "add_loss": "penalties are arguments of layers: kernel_regularizer=, activity_regularizer=",
        "call": "layer(x), layer.forward(x)",
    },
    "models": {
        **_same(f"a model is a Sequential; {_FUNCTIONAL}; {_UP_TO}", "Model", "Functional"),
        "clone_model": "Sequential.from_config(model.get_config()) is the same model, not built",
        "model_from_config": "Sequential.from_config(model.get_config())",
        "model_from_yaml": "models.model_from_json(model.to_json())",
    },
    "utils": {
        **_same(_PICTURES, "image_dataset_from_directory", "load_img", "img_to_array", "array_to_img", "save_img"),
        **_same(_PICTURES, "get_file", "split_dataset", "text_dataset_from_directory"),
        **_same("mc.plot.architecture(model) draws the layers, model.summary() prints them", "plot_model"),
        **_same("model.summary() prints the layers", "model_to_dot"),
        **_same(_BATCHES, "timeseries_dataset_from_array"),
        **_same(
            "load_model(path, custom_layers={'Name': Name})",
            *("custom_object_scope", "CustomObjectScope", "register_keras_serializable", "get_custom_objects"),
        ),
        "Progbar": "fit, evaluate and predict take verbose=1",
    },
    "callbacks": {
        **_same(_HISTORY, "TensorBoard", "RemoteMonitor", "SwanLab"),
        **_same("fit(verbose=1) draws the bar", "ProgbarLogger", "BaseLogger"),
        "SwapEMAWeights": "there is no moving average of weights",
        "CallbackList": "fit takes a list of callbacks",
    },
    "datasets": {
        **_same(_NOT_HERE, "imdb", "reuters", "boston_housing", "california_housing"),
    },
    "losses": _same(
        "a loss is a function (y_true, y_pred) -> (value, gradient), or a Loss", "deserialize", "serialize"
    ),
    "metrics": {
        **_same(_COUNTS, "IoU", "MeanIoU", "CohenKappa", "PrecisionAtRecall", "SensitivityAtSpecificity"),
        **_same(_COUNTS, "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"),
        **_same(_METRIC, "Mean", "Sum"),
    },
    "Sequential": {
        "predict_classes": "the classes are model.predict(x).argmax(axis=-1)",
        "fit_generator": "fit takes generators: fit(generator, steps_per_epoch=...)",
        **_same("evaluate and predict take generators", "evaluate_generator", "predict_generator"),
        **_same(_UP_TO, "input", "inputs", "output"),
        "params": "model.weights are the arrays, model.state_dict() copies of them by name",
        **_same(_LOOP, "train_step", "test_step", "predict_step", "make_train_function", "compute_loss"),
        "to_yaml": "model.to_json()",
        "add_loss": "penalties are arguments of layers: kernel_regularizer=, activity_regularizer=",
        "add_metric": "compile(metrics=[...])",
        "call": "model(x), model.forward(x)",
        "reset_states": _RECURRENT,
        "jit_compile": _NO_SWITCH,
        "run_eagerly": _NO_SWITCH,
    },
    "Sequential.compile": {
        **_same(_NO_SWITCH, "jit_compile", "run_eagerly", "steps_per_execution", "auto_scale_loss"),
        "loss_weights": _ONE_OUTPUT,
        "weighted_metrics": "metrics are weighted by sample_weight always, as val_... and evaluate are",
        "sample_weight_mode": "fit takes sample_weight of shape (N,)",
        "lr": "it is the optimiser's: compile(optimizers.Adam(learning_rate))",
        "learning_rate": "it is the optimiser's: compile(optimizers.Adam(learning_rate))",
    },
    "Sequential.fit": {
        "nb_epoch": "epochs",
        **_same(_ONE_THREAD, "workers", "use_multiprocessing", "max_queue_size"),
    },
    "Sequential.evaluate": {
        **_same("only fit calls callbacks", "callbacks"),
        **_same(_ONE_THREAD, "workers", "use_multiprocessing", "max_queue_size"),
    },
    "Sequential.export": {
        "format": "the format is ONNX always: leave it out",
        **_same("nothing is printed", "verbose"),
        **_same("input_layout and batch_size say what the input is", "input_signature"),
    },
    "Sequential.summary": {
        "expand_nested": "the layers in a layer are always shown",
        "show_trainable": "what is not trained says so always",
        **_same("the table is as wide as it must be", "line_length", "positions"),
        "layer_range": "get_layer finds one layer",
    },
}
# Methods that Keras calls in a subclass of a class, and minicnn does not.  (``call`` of a layer: layer.py.)
HOOKS = {
    "Sequential": {
        word: INSTEAD["Sequential"][word]
        for word in ("call", "train_step", "test_step", "predict_step", "make_train_function", "compute_loss")
    },
    "Loss": {"call": "a custom loss is a function (y_true, y_pred) -> (value, gradient), given to compile"},
    "Metric": _same(_METRIC, "update_state", "reset_state", "reset_states", "merge_state"),
    "Optimizer": _same(f"to step in another way {_LOOP}", "update_step", "apply_gradients", "apply", "get_updates"),
    **{kind: {"call": "it is called: __call__"} for kind in ("Regularizer", "Constraint", "Initializer", "Schedule")},
}
INSTEAD["Sequential.predict"] = INSTEAD["Sequential.evaluate"]
INSTEAD["optimizers"] = {
    **_same("SGD, Adam and their like are used as they are", "deserialize", "serialize", "legacy"),
    **_same(_NO_OPTIMISER, "Ftrl", "Lion", "Lamb", "Muon", "Adafactor", "LossScaleOptimizer"),
}


# ---- attributes ----


def missing(where, name, owner, known):
    """The AttributeError for a word that ``owner`` ("module 'minicnn.layers'") has not.

    ``where``: its words in ``INSTEAD``; ``known``: the public names that it has, of which the nearest is suggested.
    """
    text = f"{owner} has no attribute {name!r}"
    near = None if name.startswith("_") else _check.nearest(name, known)
    if name in INSTEAD.get(where, ()):
        text += f". In minicnn: {INSTEAD[where][name]}"
    elif near:
        text += f". Did you mean {near!r}?"
    return AttributeError(text, name=name, obj=None)  # with the object Python would add a guess of its own


def attribute_of(module):
    """A ``__getattr__`` for a module: what Python calls for a name that the module has not."""
    where = module.partition(".")[2]

    def __getattr__(name):
        raise missing(where, name, f"module {module!r}", public_names(sys.modules[module]))

    return __getattr__


def public_names(module):
    """What a module offers: the names in its ``__all__``, and all that is its own and no module."""
    of_others = types.ModuleType, types.FunctionType
    named = vars(module)
    listed = {
        name
        for name, value in named.items()
        if name[0] != "_" and (not isinstance(value, of_others) or getattr(value, "__module__", "") == module.__name__)
    }
    return sorted({*named.get("__all__", ()), *listed})


# ---- methods ----


def refuse_hooks(cls):
    """TypeError for a class with a method that Keras would call, and nobody calls here: see ``HOOKS``."""
    for base in cls.__mro__[1:]:
        for name, sentence in HOOKS.get(base.__name__, {}).items():
            if name in vars(cls):
                required = f"a {base.__name__} has no method `{name}` that anybody calls"
                raise TypeError(_check.message(cls.__name__, required, _check.Shown("one"), f"In minicnn: {sentence}"))


# ---- keywords ----


def answering(method):
    """A method that takes ``**unknown`` only in order to answer for it (``refuse_keywords``): its signature, for help
    and for whoever asks what it takes, is without."""
    signature = inspect.signature(method)
    named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=named)
    return method


def refuse_keywords(where, given, known):
    """TypeError for the first of the keywords ``given``, which a function with the keywords ``known`` has not."""
    word = next(iter(given))
    sentence = INSTEAD.get(where, {}).get(word)
    required = "takes no such keyword" if sentence else f"the keywords are {', '.join(known)}"
    near = _check.nearest(word, known)
    fix = f"In minicnn: {sentence}" if sentence else f"Did you mean `{near}`?" if near else ""
    raise TypeError(_check.message(where, required, _check.Shown(f"`{word}`"), fix))
