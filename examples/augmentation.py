"""Does augmentation help?  Which set of layers does, on a validation part; then what the standard one gains on a test
part.

python examples/augmentation.py            # the tables of docs/augmentation.md, in minutes; MNIST: docs/data.md
python examples/augmentation.py --write    # the same, and keeps them in augmentation.json and on that page
python examples/augmentation.py --quick    # seconds: one epoch, two seeds, the embedded digits alone

Choosing: the network `small`, with every set, on 1,000 images; accuracy on others of the training part (every seed has
its own parts).  The test parts are not looked at.  Gaining: the network `keras_cifar`, without and with the standard
set, accuracy on the test part.  Two trainings of one seed begin with the same weights, see the same images in the same
order, and make as many steps.  A difference counts where it is larger than three standard errors of itself, taken seed
by seed.
"""

import argparse
import json
import math
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import minicnn as mc
from minicnn import layers, networks

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "augmentation.md"
SEEDS, IMAGES = 5, 1000
BLACK = {"fill_mode": "constant"}
PARTS = {
    "flip": lambda: layers.RandomFlip("horizontal"),
    "translation": lambda: layers.RandomTranslation(0.1, 0.1, **BLACK),
    "rotation": lambda: layers.RandomRotation(0.05, **BLACK),
    "zoom": lambda: layers.RandomZoom(0.1, **BLACK),
    "erasing": lambda: layers.RandomErasing(0.5, fill_value=0.0, value_range=(0, 1)),
}
NOTHING, STANDARD = "nothing", "translation, rotation"
SETS = (NOTHING, *PARTS, STANDARD, "translation, rotation, zoom", "translation, rotation, zoom, erasing")
EPOCHS = {"choose": {"digits": 60, "mnist": 20}, "gain": {"digits": 15, "mnist": 15}}
CLEAR = 3  # standard errors


def layers_of(name):
    return [] if name == NOTHING else [PARTS[part]() for part in name.split(", ")]


def trained(x, y, name, front, network, shape, epochs, seed):
    chain = [*front, *layers_of(name), *networks.NETWORKS[network](shape, 10)]
    model = mc.Sequential(chain, seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def choose(data, name, seed, epochs, images=IMAGES):
    """Accuracy in percent on a validation part."""
    (x, y), _ = load(data)
    if data == "digits":  # the digits of one writer stand together: those of other writers, one block for each seed
        block = len(x) // SEEDS
        others = np.arange(seed * block, (seed + 1) * block)
        chosen = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(x)), others))[:images]
    else:
        order = np.random.default_rng(seed).permutation(len(x))
        chosen, others = order[:images], order[images : images + 2000]
    model = trained(x[chosen], y[chosen], name, [], "small", x.shape[1:], epochs, seed)
    return 100 * model.evaluate(x[others], y[others])[1]


def gain(data, name, seed, epochs, images=None):
    """Accuracy in percent on the test part; of the digits enlarged to 16 x 16, which the network needs."""
    (x, y), (x_test, y_test) = load(data)
    images = images or {"mnist": IMAGES, "digits": len(x)}[data]
    chosen = np.random.default_rng(seed).permutation(len(x))[:images]
    front, shape = ([layers.Resizing(16, 16)], (16, 16, 1)) if data == "digits" else ([], x.shape[1:])
    model = trained(x[chosen], y[chosen], name, front, "keras_cifar", shape, epochs, seed)
    return 100 * model.evaluate(x_test, y_test)[1]


def load(data):
    """Images in [0, 1]."""
    parts = getattr(mc.datasets, data).load_data()
    return [(x / np.float32(255) if x.dtype == np.uint8 else x, y) for x, y in parts]


# ---- from results to sentences ----


def mean(values):
    """ "97.31 ± 0.12": the mean and its standard error."""
    return f"{statistics.fmean(values):.2f} ± {error(values):.2f}"


def error(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def differences(results, name):
    return [a - b for a, b in zip(results[name], results[NOTHING], strict=True)]


def verdict(values):
    """What a difference is, seed by seed."""
    change, uncertain = statistics.fmean(values), error(values)
    if not abs(change) > CLEAR * uncertain:
        return "not decided"
    return "helps" if change > 0 else "harms"


def tables(results):
    """{"choose", "gain": Markdown} of {part: {data: {set: accuracies by seed}}}."""
    found = {}
    for part, head in (("choose", "accuracy on the validation part, %"), ("gain", "accuracy on the test part, %")):
        if part not in results:
            continue
        rows = [f"| | {head} | difference | |", "|---|---|---|---|"]
        for data, of_sets in results[part].items():
            for name, values in of_sets.items():
                row = f"| {data}, {name} | {mean(values)} |"
                if name == NOTHING:
                    rows.append(f"{row} | |")
                    continue
                more = differences(of_sets, name)
                rows.append(f"{row} {statistics.fmean(more):+.2f} ± {error(more):.2f} | {verdict(more)} |")
        found[part] = "\n".join(rows)
    return found


def put(results, page):
    """The text of the page with the tables in their places."""
    for part, text in tables(results).items():
        page = re.sub(rf"(<!-- {part} -->\n).*?(<!-- end -->)", rf"\g<1>{text}\n\g<2>", page, count=1, flags=re.DOTALL)
    return page


def kept():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a run of seconds, which shows nothing but that it runs")
    parser.add_argument("--write", action="store_true", help=f"keep the results in {FILE.name}")
    parser.add_argument("--data", choices=("digits", "mnist"), help="these alone")
    parser.add_argument("--part", choices=("choose", "gain"), help="this alone")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--write is for full runs")
    results = kept() if options.write else {}
    for part, run in (("choose", choose), ("gain", gain)):
        for data in ("digits",) if options.quick else ("digits", "mnist"):
            if (options.part or part, options.data or data) != (part, data):
                continue
            begin, epochs = time.perf_counter(), 1 if options.quick else EPOCHS[part][data]
            names = SETS[:: 3 if options.quick else 1] if part == "choose" else (NOTHING, STANDARD)
            seeds, few = range(2 if options.quick else SEEDS), [200] if options.quick else []
            found = {name: [run(data, name, seed, epochs, *few) for seed in seeds] for name in names}
            results = kept() if options.write else results  # another process may have written meanwhile
            results.setdefault(part, {})[data] = found
            print(f"{part}, {data}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
            if options.write:
                FILE.write_text(json.dumps(results, indent=1) + "\n")
                PAGE.write_text(put(results, PAGE.read_text()))
    print("\n\n".join(tables(results).values()))


if __name__ == "__main__":
    main()
