"""``python -m benchmarks [dropout | steps | imports ...]``: all of them without a name.  Prints Markdown tables."""

import argparse
import importlib

from benchmarks import machine

NAMES = ("dropout", "steps", "imports")


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: to see that it works, not how fast it is"
    )
    options = parser.parse_args()
    print(machine.facts())
    for name in options.names or NAMES:
        importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)


if __name__ == "__main__":
    main()
