"""``minicnn data info`` and ``minicnn data fetch``."""

import json

from minicnn import datasets
from minicnn.cli import defaults, words

FACTS = ("here", "files", "looked_in", "size", "home", "licence", "citation", "class_names")


def data(options):
    """Says which data sets there are, or downloads some; the status is 1 if one cannot be had."""
    if options.action == "fetch" and not options.names:
        raise words.Usage(f"fetch needs the name of a data set: {', '.join(defaults.DATA)}")
    names = list(dict.fromkeys(options.names or defaults.DATA))
    return _info(names, options) if options.action == "info" else _fetch(names, options)


def _info(names, options):
    found = {name: datasets.info(name) for name in names}
    if options.json:
        words.show(json.dumps({name: {fact: getattr(about, fact) for fact in FACTS} for name, about in found.items()}))
        return 0
    rows = [["", "", "download", "classes", "licence"]]
    for name, about in found.items():
        size = "none" if name == "digits" else f"{about.size / 1e6:.0f} MB"
        rows.append([name, "here" if about.here else "not here", size, str(len(about.class_names)), about.licence])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words.show("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _fetch(names, options):
    found, status = {}, 0
    for name in names:
        try:
            found[name] = [str(path) for path in datasets.fetch(name)]
        except words.FAILURES as error:
            status = 1
            words.note(f"error: {words.sentence(error)}")
            found[name] = {"error": words.sentence(error)}
            continue
        if not options.json:
            words.show(f"{name}: {', '.join(found[name])}")
    if options.json:
        words.show(json.dumps(found))
    return status
