"""RESULTS.md: one section for each part, replaced when that part is run again with ``--write``."""

from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Written by `python -m benchmarks --write`. Times are medians, the spread is the distance of the quartiles over the
median. Every table names the machine, the instruction set and the threads; what is compared took turns in one process,
with equally many threads. Compare figures within one table only.

"""


def put(names, name, text, file=FILE):
    """Replaces or adds the section ``name``; sections stand in the order of ``names``."""
    sections = read(file)
    sections[name] = text.strip() + "\n"
    body = "\n".join(f"<!-- {one} -->\n{sections[one]}" for one in names if one in sections)
    file.write_text(HEAD + body)


def read(file):
    """{name: text} of the sections that the file has."""
    text = file.read_text() if file.exists() else ""
    parts = [part.partition(" -->\n") for part in text.split("\n<!-- ")[1:]]
    return {name: content.strip() + "\n" for name, _, content in parts}
