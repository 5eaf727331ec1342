"""``minicnn evaluate``."""

import json

import numpy as np

from minicnn import datasets, metrics
from minicnn.cli import building, defaults, models, predict, sources, words
from minicnn.cli.scale import Scale
from minicnn.datasets import images


def evaluate(options):
    """Prints loss, accuracy, the measures of every class and the confusion matrix; the status is 1 if a picture could
    not be read."""
    if options.data is not None and options.pictures is not None:
        raise words.Usage("the data are given twice, as DATA and by --data")
    model = models.load(options.model)
    name = options.pictures or options.data or _fitting(options.model, model, options.data_dir)
    predict.require_classes(options.model, model)
    scale, skipped = Scale(model, options.invert), []
    if sources.is_known(name):
        if options.fit is not None or options.invert:
            raise words.Usage(f"--{'invert' if options.invert else 'fit'} is for pictures of your own")
        _, (x, y) = sources.known(name, options.data_dir)
        if x.shape[1:] == model.input_shape:
            x = scale.of_known(x)
    else:
        if options.data_dir is not None:
            raise words.Usage("--data-dir is for the files of known data sets, such as --data mnist")
        found = pictures_for(name, model, sources.fit_for(model, options.fit))
        y, skipped = found.y, found.skipped
        x = scale.of_pictures(found.files, found.x)
    found, outputs = measures(model, x, y)
    report = {
        **found,
        "class_names": model.class_names,
        "data": name,
        "samples": len(x),
        "model": options.model,
        "skipped": [{"file": path, "error": reason} for path, reason in skipped],
    }
    if options.json:
        words.show(json.dumps(words.finite(report)))
    else:
        names = [row["class"] for row in report["classes"]]
        words.show(_text(report, names, metrics.classification_report(y, outputs, names)))
    return int(sources.failed(name, skipped))


def measures(model, x, y):
    """({"accuracy", "loss", "classes", "macro avg", "weighted avg", "confusion_matrix"}, the class that each of the
    samples is taken for)."""
    if model.loss_function is None or not model.metrics:
        loss = building.LOSS if model.output_shape != (1,) else "binary_crossentropy"
        model.compile("sgd", model.loss_function or loss, ["accuracy"])
    loss = model.evaluate(x, y, batch_size=256, return_dict=True)["loss"]
    probabilities = model.predict_proba(x, batch_size=256)
    outputs = taken_for(probabilities)
    matrix = metrics.confusion_matrix(y, outputs, max(2, probabilities.shape[1]))
    numbers = [str(k) for k in range(len(matrix))]
    names = numbers if model.class_names is None else model.class_names
    report = metrics.classification_report(y, outputs, numbers, output_dict=True)
    found = {
        "accuracy": float(np.mean(outputs == np.ravel(y))),
        "loss": loss,
        "classes": [{"class": name, **report[number]} for name, number in zip(names, numbers, strict=True)],
        "macro avg": report["macro avg"],
        "weighted avg": report["weighted avg"],
        "confusion_matrix": matrix.tolist(),
    }
    return found, outputs


def taken_for(probabilities):
    """The class of each row: the most probable one."""
    return probabilities.argmax(1) if probabilities.shape[1] > 1 else (probabilities[:, 0] > 0.5).astype(int)


def _fitting(path, model, data_dir):
    """The known data set that fits the model, its images, and its classes where the model names them: the first that is
    here, or that is said to be in ``data_dir``."""
    shapes = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
    named = [name for name in defaults.DATA if sources.names_of(name) == model.class_names]
    fitting = [name for name in defaults.DATA if shapes.get(name, (28, 28, 1)) == model.input_shape]
    chosen = [name for name in fitting if name in named or model.class_names is None]
    if not chosen:
        needs = f"x must have shape (N, {', '.join(map(str, model.input_shape))})"
        got = "other classes in the known data sets of that shape"
        if not fitting:
            got = "shape (N, 8, 8, 1) in the digits, and no other known data set fits"
        raise ValueError(f"{path}: {needs}; got {got}. Say which pictures: minicnn evaluate {path} FOLDER")
    here = [name for name in chosen if data_dir is not None or datasets.info(name).here]
    if not here:
        ways = f"minicnn evaluate {path} FOLDER, or a known data set that fits: {', '.join(chosen)}"
        raise ValueError(f"{path}: say on which pictures: {ways}, of which none is here; minicnn data fetch gets it")
    return here[0]


def pictures_for(data, model, way):
    """The pictures, their labels as the model numbers the classes."""
    shape, classes = model.input_shape, max(2, model.output_shape[0])
    if len(shape) != 3 or shape[2] not in images.COLORS:
        raise ValueError(f"evaluate needs a model of pictures, (height, width, 1, 3 or 4); got {shape}")
    settings = {"image_size": shape[:2], "color": images.COLORS[shape[2]], "fit": way}
    numbers = [str(k) for k in range(classes)]
    if model.class_names is not None:
        found = sources.pictures(data, settings, class_names=model.class_names)
    else:
        found = sources.pictures(data, settings)
        if set(found.class_names) <= set(numbers):
            found.y = np.array([int(name) for name in found.class_names])[found.y]
        else:
            if len(found.class_names) != classes:
                got = f"{len(found.class_names)} classes, {', '.join(found.class_names[:10])}"
                raise ValueError(f"{data}: must have the {classes} classes of the model, which has no names; got {got}")
            words.note(
                f"note: the model has no names of classes: {', '.join(found.class_names)} are taken in this order"
            )
    sources.note_sizes(found.files, shape[:2], way)
    return found


def _text(report, names, table):
    matrix = np.array(report["confusion_matrix"])
    lines = [f"{report['data']}, {words.count(report['samples'], 'image')}: loss {report['loss']:.4f}, accuracy "
             f"{100 * report['accuracy']:.2f} %"]  # fmt: skip
    lines += ["", table.rstrip()]
    if len(matrix) <= 20:
        width, cell = max(map(len, [*names, "true"])), max(3, len(str(matrix.max())))
        lines += ["", f"{'true':<{width}}  taken for " + ", ".join(names)]
        lines += [
            f"{name:<{width}}  {' '.join(f'{n:{cell}}' for n in row)}" for name, row in zip(names, matrix, strict=True)
        ]
    return "\n".join(lines)
