"""The documents keep their word: every block of Python runs and prints what it says, every quotation is current.

In docs/*.md a block ``python`` is run, all blocks of a page in one namespace and in order; a block ``text`` directly
below is what it prints.  A block with ``file=PATH`` behind the language quotes that file, indented as
the page likes.
"""

import contextlib
import io
import os
import re
import textwrap
from pathlib import Path

import pytest

import minicnn as mc

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def blocks(text):
    """(line, language, quoted file or None, content, whether it stands directly below the block before) in order."""
    end = -1
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield line, match[1], match[2], match[3], match.start() == end
        end = match.end()


def run(text, name):
    """Runs the page; AssertionError with name and line where it prints something else than it says."""
    namespace, printed, number = {"__name__": "__main__"}, None, 0
    for line, language, quoted, content, follows in blocks(text):
        if language == "python" and quoted is None:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile("\n" * line + content, name, "exec"), namespace)
            printed, number = output.getvalue(), number + 1
        elif language == "text" and follows and printed is not None:
            assert printed == content, f"{name}, line {line}: the block above prints\n{printed}"
            printed = None
        else:
            printed = None
    return number


def check_quotations(text, name):
    """AssertionError with name and line for a quotation that is not in its file."""
    number = 0
    for line, _, quoted, content, _ in blocks(text):
        if quoted is not None:
            source, wanted = (ROOT / quoted).read_text().splitlines(), content.splitlines()
            parts = ("\n".join(source[i : i + len(wanted)]) for i in range(len(source)))
            found = any(textwrap.dedent(part) == "\n".join(wanted) for part in parts)
            assert found, f"{name}, line {line}: not in {quoted}"
            number += 1
    return number


@pages
def test_python_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path))  # also what a page assigns is taken back
    mc.set_num_threads(1)
    run(page.read_text(), page.name)


@pages
def test_quotations_are_current(page):
    check_quotations(page.read_text(), page.name)


@pages
def test_links_lead_to_files(page):
    prose = FENCE.sub("", page.read_text())  # code has brackets of its own
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not re.match(r"\w+:", link):
            assert os.path.exists(page.parent / link), f"{page.name}: {link}"


def headless_tables(text):
    """The first lines of tables without a head and the line under it, which are not shown as tables."""
    parts = re.findall(r"(?:^\|.*\n)+", FENCE.sub("\n", text) + "\n", re.MULTILINE)
    return [part.split("\n")[0] for part in parts if not re.match(r"\|.*\n\|[-:| ]+\n", part)]


@pages
def test_tables_have_heads(page):
    assert headless_tables(page.read_text()) == []


def test_dropout_md_is_checked_at_all():
    text = (ROOT / "docs" / "dropout.md").read_text()
    assert len(re.findall(r"^```python$", text, re.MULTILINE)) >= 15
    assert check_quotations(text, "dropout.md") >= 6


# ---- the checks above can fail ----


@pytest.mark.parametrize(("text", "error"), [
    ("```python\nassert 1 == 2\n```\n", AssertionError),
    ("```python\nx = 1\n```\n\n```python\nprint(x)\n```\n```text\n2\n```\n", AssertionError),
    ("```python\nx = 1\n```\n\n```python\nprint(y)\n```\n", NameError),
])  # fmt: skip
def test_a_wrong_page_fails(text, error):
    with pytest.raises(error):
        run(text, "page")


def test_a_right_page_passes():
    text = "```python\nx = 1\n```\nprose\n```python\nprint(x)\n```\n```text\n1\n```\n\n```text\nanything\n```\n"
    assert run(text + "```python file=setup.py\nnot run\n```\n", "page") == 2


def test_a_table_that_is_torn_apart_fails():
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"
    assert headless_tables(table) == []
    assert headless_tables(table.replace("| 3", "\n| 3")) == ["| 3 | 4 |"]


def test_a_wrong_quotation_fails():
    quotation = "```python file=tests/test_docs.py\nROOT = Path(__file__)\n```\n"
    with pytest.raises(AssertionError, match=r"page, line 1: not in tests/test_docs.py"):
        check_quotations(quotation, "page")
    assert check_quotations(quotation.replace("__)", "__).resolve().parent.parent"), "page") == 1
