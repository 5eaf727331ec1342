"""``minicnn train``."""

import json
import shlex
import time

from minicnn import distributed
from minicnn.cli import building, runs, sources, words
from minicnn.cli.ranks import WHERE, is_interrupt


def train(options, ranks=distributed.ALONE):
    """Trains a network, and where that is asked for the same network at dropout rate 0, and says how good they are.

    ``ranks``: those that do it together (distributed.py); the first one finds and writes the run's folder.
    """
    begin = time.perf_counter()
    run = ranks.of_first(lambda: runs.Run(options))
    settings = run.settings
    data = _data(run, options, ranks)
    model = building.model(settings["dropout"], settings["seed"], settings, data, text=run.text)
    rate = _rate(settings, model, options)
    if options.dry_run:
        return _dry_run(run, data, model, options)
    ranks.require_same(WHERE, {"the data": [data.counts(), data.shape, data.class_names]})  # none has failed till here
    run = ranks.of_first(lambda: run.begin(data.counts()))
    model, history = _trained(run, data, model, ranks, "", rate, saved_as="model.npz")
    result = _measured(model, data, settings) | {"fingerprint": model.fingerprint()}
    report = {
        **result,
        "measured_on": data.measured,
        "epochs": len(history.get("loss", [])),
        "seconds": 0,
        "model": run.path("model.npz"),
        "history": run.path("history.json"),
        "class_names": model.class_names,
        "data": run.data,
        "network": settings["model"],
        "dropout": rate,
        "seed": model.seed,
        "samples": data.counts(),
        "skipped": [{"file": path, "error": reason} for path, reason in data.skipped],
    }
    if settings["compare"]:
        report["without_dropout"] = result
        if rate != 0:
            plain = building.model(0.0, settings["seed"], settings, data, text=run.text)
            plain, _ = _trained(run, data, plain, ranks, "-without-dropout", 0.0)
            report["without_dropout"] = _measured(plain, data, settings) | {"fingerprint": plain.fingerprint()}
    report["seconds"] = round(time.perf_counter() - begin, 3)
    words.show(json.dumps(words.finite(report)) if options.json else _table(report, data, settings))
    return int(sources.failed(run.data, data.skipped))


def _data(run, options, ranks):
    """The data; the first rank has them before the others ask, so that what is to be downloaded is so once."""

    def load():
        return sources.load(run.settings | {"data": run.data}, options.data_dir)

    found = load() if ranks.first or not sources.is_known(run.data) else None
    ranks.of_first(lambda: None)
    return load() if found is None else found


def _rate(settings, model, options):
    """The dropout rate to be told of; None where a network has none, or its own."""
    if settings["dropout"] is not None:
        return settings["dropout"]
    if not building.dropout_layers(model) and settings["compare"]:
        if options.compare:
            raise words.Usage("--compare is for networks with dropout, and this one has no dropout layer")
        settings["compare"] = False
    return None


def _trained(run, data, model, ranks, suffix, rate, saved_as=None):
    """(model, history) after all epochs, with a checkpoint after every one; goes on with one that exists."""
    settings, backup = run.settings, runs.Backup(run.path(f"checkpoint{suffix}.npz"))
    parts = {part: (building.as_inputs(model, x, settings), y) for part, (x, y) in data.parts.items() if part != "test"}
    building.adapt(model, parts["training"][0], settings)
    done = backup.epochs_done()
    what = settings["model"] if rate is None else f"dropout {rate:g}"
    words.note(what + (f", continuing after epoch {done}" if done else ""))
    watching = building.watching(settings, "validation" in parts)
    if ranks.size > 1:
        model.distribute(timeout=ranks.timeout)
    saves = ranks.first and saved_as is not None
    try:
        history = model.fit(
            *parts["training"],
            settings["batch_size"],
            settings["epochs"],
            callbacks=[backup, *watching, runs.Rates(), *([runs.Saver(run)] if saved_as else [])],
            validation_data=parts.get("validation"),
            class_weight=building.class_weight(settings, data),
            clean_train_metrics=_is_thinned(settings, model, rate),
        ).history
    except (KeyboardInterrupt, distributed.RankError) as error:
        if not is_interrupt(error):
            raise
        if saves:
            model.save(run.path(saved_as))
        saved = f"interrupted; what has been trained is in {run.folder}"
        words.note(f"{saved}. Continue with: minicnn train --resume {shlex.quote(run.folder)}")
        raise
    if saves:
        model.save(run.path(saved_as))
        run.write_json("history.json", history)
    return model, history


def _is_thinned(settings, model, rate):
    """Whether the loss of training is not that of the network on the images: what it has learned is told beside it."""
    return bool(building.dropout_layers(model)) or rate == 0 or settings["augment"] is not None


def _measured(model, data, settings):
    """{"loss", "accuracy"} on the test part, or else the validation part, in eval mode; None where there is neither."""
    if data.measured is None:
        return {"loss": None, "accuracy": None}
    x, y = data.parts[data.measured]
    return model.evaluate(building.as_inputs(model, x, settings), y, batch_size=256, return_dict=True)


def _table(report, data, settings):
    lines = [f"{data.name}: {data.described()}, {report['epochs']} epochs, {report['seconds']:.1f} s", ""]
    name = settings["model"] if report["dropout"] is None else f"with dropout {report['dropout']:g}"
    named = [(name, report)]
    if settings["compare"] and report["dropout"] != 0:
        named.append(("at rate 0", report["without_dropout"]))
    if data.measured is None:
        lines.append("not tested: there is no test part and no validation part (--validation 0.2)")
    else:
        part = data.measured
        lines.append(f"{'':<20} {part} loss   {part} accuracy")
        for name, result in named:
            loss, accuracy = result["loss"], 100 * result["accuracy"]
            lines.append(f"{name:<20} {loss:{len(part) + 5}.4f}  {accuracy:{len(part) + 8}.2f} %")
    return "\n".join([*lines, "", f"saved: {report['model']}, {report['history']}"])


def _dry_run(run, data, model, options):
    settings, classes = run.settings, data.counts_of_classes()
    files = ["settings.json", "checkpoint.npz", "history.json", "model.npz"]
    files += ["network.json"] if run.text is not None else []
    files += ["checkpoint-without-dropout.npz"] if settings["compare"] and settings["dropout"] != 0 else []
    report = {
        "dry_run": True,
        "data": run.data,
        "shape": list(data.shape),
        "class_names": data.class_names,
        "samples": data.counts(),
        "classes": classes,
        "skipped": [{"file": path, "error": reason} for path, reason in data.skipped],
        "params": model.count_params(),
        "settings": settings,
        "run": run.named,
        "files": files,
    }
    status = int(sources.failed(run.data, data.skipped))
    if options.json:
        words.show(json.dumps(words.finite(report)))
        return status
    parts = [*data.parts]
    width = max(map(len, ["class", *data.class_names]))
    rows = [f"{'class':<{width}}  {'  '.join(parts)}"]
    for name, counts in classes.items():
        rows.append(f"{name:<{width}}  {'  '.join(f'{counts[part]:{len(part)}}' for part in parts)}")
    chosen = ", ".join(f"{name} {runs.shown(value)}" for name, value in settings.items() if value is not None)
    lines = [model.summary_text(), "", f"{data.name}: {data.described()}", *rows, "", f"settings: {chosen}"]
    words.show("\n".join([*lines, f"nothing is trained or written; it would go into {run.named}: {', '.join(files)}"]))
    return status
