"""``python -m benchmarks [kernels | steps | ...] [--quick] [--write]``.

Runs the parts that are named, or all of them, and prints Markdown.  Needs nothing but minicnn and this repository; with
the extra ``bench`` (PyTorch, ONNX Runtime, Matplotlib) installed, those stand beside it.
"""

import argparse
import importlib
from pathlib import Path

from benchmarks import machine, results

NAMES = (
    "kernels",
    "layers",
    "augment",
    "depthwise",
    "steps",
    "fit",
    "sklearn_fit",
    "residual",
    "dropout",
    "montecarlo",
    "scaling",
    "ranks",
    "contention",
    "memory",
    "imports",
)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small and few: to see that it works, not how fast it is")
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md, and draw the plot")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(NAMES)}")
    for name in options.names or NAMES:
        text = section(name, options.quick, Path(__file__).parent if options.write else None)
        print(text, flush=True)
        if options.write:
            results.put(NAMES, name, text)


def section(name, quick, plots):
    """The text of one part: its title, the machine, its tables."""
    part = importlib.import_module(f"benchmarks.{name}")
    with machine.Others() as others:
        body = part.run(quick, plots)
    return f"## {part.TITLE}\n\n{machine.facts()}; {others}.\n\n{body}"


if __name__ == "__main__":
    main()
