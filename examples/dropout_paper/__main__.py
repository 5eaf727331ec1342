"""``python -m examples.dropout_paper [NAME ...] [--quick] [--seeds N] [--jobs 2] [--write]``, in the project's folder.

Runs the experiments that are named, or all of them, and prints their tables and what they say.  MNIST is looked for
where MINICNN_DATA says, or downloaded; ``--quick`` takes the digits that come with minicnn, and seconds.
"""

import argparse
import importlib
import sys

from examples.dropout_paper import lab, report

NAMES = ("settings", "rate", "size", "averaging", "sparsity", "features", "regularisers", "convergence", "early",
         "family")  # fmt: skip


def main(arguments=None):
    options = parse(arguments)
    for name in options.names or NAMES:
        experiment = importlib.import_module(f"examples.dropout_paper.{name}")
        size = experiment.QUICK if options.quick else experiment.FULL
        seeds = options.seeds or getattr(experiment, "SEEDS", lab.SEEDS)
        folder = None if options.quick else report.FOLDER / "runs"  # what is quick need not be kept
        try:
            results = lab.run(experiment, size, seeds, options.jobs, folder, say)
        except (FileNotFoundError, ImportError) as error:  # the latter says what downloads need
            sys.exit(f"{error}\n--quick needs no data")
        made = experiment.report(results, size)
        text = report.section(name, experiment, size, results, made, seeds, options.jobs, options.write)
        print(text, end="\n\n", flush=True)
        if options.write:
            for file, draw in made.pictures.items():
                report.save(draw(), report.FOLDER / file)
            report.put(NAMES, name, text)


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m examples.dropout_paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="the embedded digits, tiny nets: to see that it works")
    parser.add_argument("--seeds", type=int, help="trainings of each kind; default 5, of early and family 10")
    parser.add_argument(
        "--jobs", type=int, default=1, help="trainings at a time; more than one needs joblib; default 1"
    )
    parser.add_argument("--write", action="store_true", help="put the sections into RESULTS.md, and draw the pictures")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no experiment {unknown[0]!r}; the experiments are {', '.join(NAMES)}")
    if options.quick and options.write:
        parser.error("--write needs the full runs")
    if (options.seeds is not None and options.seeds < 1) or options.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    return options


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
