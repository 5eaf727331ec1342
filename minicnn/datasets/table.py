"""Pictures that a table names, a file in CSV, with their labels."""

import math
import os
import re

import numpy as np

from minicnn import _check, _files
from minicnn.datasets.errors import DataError
from minicnn.datasets.folder import ENDINGS
from minicnn.datasets.pictures import Choice, class_name, collected, numbering

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
_SAMPLE = 50  # lines that are looked at to see what stands between the columns


def image_csv(
    csv,
    folder=None,
    image_size=(32, 32),
    color_mode="rgb",
    validation_split=0.0,
    seed=0,
    *,
    file_column=None,
    label_column=None,
    label_mode="auto",
    delimiter=None,
    class_names=None,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    lazy=False,
    batch_size=32,
):
    """The pictures that the table ``csv`` names, with their labels: ``Pictures``, as ``image_folder`` gives.

        file,label
        1.jpg,cat
        indoors/2.png,dog

    - ``folder``: where the files are; None for the folder of the table.
    - ``file_column``, ``label_column``: the heading of a column, or its number from 0.  By default the first two, and
      the first line is a heading unless it names a file that is there, or that has the ending of a picture.
    - ``label_mode``: "class": labels are the names of classes, numbered in alphabetical order.  "number": they are
      numbers, as for a regression, or numbers of classes, and y is int64 where all are whole, else float64, and
      ``class_names`` None.  "auto": "number" where all labels are numbers, "class" where none is.
    - ``delimiter``: what stands between columns; None for the comma, semicolon, tab or bar by which the table names the
      most files.
    - The other arguments are those of ``image_folder``.  Classes have their share in ``validation``; so have numbers
      where they are whole and there are enough of each.

    The text is UTF-8 (with or without a byte order mark) or UTF-16 with one; fields may be quoted.  Rows whose file is
    missing or cannot be read, and rows without a file or label, are named in ``skipped`` and in one warning.

    FileNotFoundError or PermissionError for the table; DataError if it is no such table, if some of the labels are
    numbers and others are not, or if no picture can be read; ValueError and TypeError for wrong arguments.
    """
    where = "datasets.image_csv"
    keeping = crop_to_aspect_ratio, pad_to_aspect_ratio
    choice = Choice.checked(where, image_size, color_mode, validation_split, seed, *keeping, lazy, batch_size)
    label_mode = _check.choice(where, "label_mode", label_mode, ("auto", "class", "number"))
    if class_names is not None:
        class_names = _check.class_names(where, "class_names", class_names)
        if label_mode == "number":
            required = "class_names go with labels that are names, not with label_mode='number'"
            raise ValueError(_check.message(where, required, class_names))
        label_mode = "class"
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ValueError(_check.message(where, "delimiter must be None or a single character, such as ';'", delimiter))
    path = os.fsdecode(csv)
    folder = os.path.dirname(path) if folder is None else os.fsdecode(folder)
    table = _Table(where, path, folder, file_column, label_column, delimiter)
    labels = [label for _, _, label in table.rows]
    if _are_numbers(path, table.rows, label_mode):
        names = None
        y = [int(label) for label in labels] if all(map(WHOLE.fullmatch, labels)) else [float(one) for one in labels]
    else:
        labels = [class_name(label) for label in labels]
        names, numbers = numbering(where, set(labels), class_names)
        y = [numbers[label] for label in labels]
    said = []
    if names is not None and class_names is None and len(names) == 1:
        said.append(f"there is one class only, {names[0]!r}")
    return collected(choice, path, [file for _, file, _ in table.rows], np.array(y), names, table.skipped, said)


class _Table:
    """The rows of a file in CSV as (line, path of the picture, label); ``skipped``: those that lack one of both."""

    def __init__(self, where, path, folder, file_column, label_column, delimiter):
        self.where, self.path, self.folder, self.chosen = where, path, folder, (file_column, label_column)
        for name, column in zip(("file_column", "label_column"), self.chosen, strict=True):
            if column is not None and not isinstance(column, str):
                _check.integer(where, name, column, 0)
        text = _text(path)
        if delimiter is None:
            delimiter = self._delimiter("\n".join(text.splitlines()[:_SAMPLE]))
        lines = self._parsed(text, delimiter)
        begin, *columns = self._columns(lines)
        self.rows, self.skipped = [], []
        for line, fields in lines[begin:]:
            file, label = (fields[column] if column < len(fields) else "" for column in columns)
            if file and label:
                self.rows.append((line, self._located(file), label))
            elif file:
                self.skipped.append((self._located(file), f"has no label in line {line}"))
            else:
                self.skipped.append((f"{path}, line {line}", "names no file"))
        if not self.rows:
            raise DataError(path, "must have a line for each picture, with its file and its label; got none")

    def _parsed(self, text, delimiter):
        """(number of the line, its fields) of all lines that are not empty."""
        import csv  # late, for the sake of ``import minicnn``
        import io

        reader, found = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), []
        try:
            for fields in reader:
                fields = [field.strip() for field in fields]
                if any(fields):
                    found.append((reader.line_num, fields))
        except csv.Error as error:
            raise DataError(self.path, f"is not a table in CSV (line {reader.line_num}: {error})") from error
        return found

    def _delimiter(self, text):
        """That of DELIMITERS by which the lines name the most files that there are, or else are the most alike."""
        best, best_score = None, None
        for delimiter in DELIMITERS:
            lines = self._parsed(text, delimiter)
            try:
                begin, file, label = self._columns(lines)
            except DataError:
                continue
            rows = [fields for _, fields in lines[begin:] if len(fields) > max(file, label)]
            there = sum(os.path.exists(self._located(fields[file])) for fields in rows)
            score = there, sum(len(fields) == len(lines[0][1]) for fields in rows)
            if best is None or score > best_score:
                best, best_score = delimiter, score
        if best is None:
            self._columns(self._parsed(text, ","))  # raises what is wrong
        return best

    def _columns(self, lines):
        """(the number of lines that are a heading, the number of the column of files, that of labels)."""
        if not lines:
            raise DataError(self.path, "must have a line for each picture, with its file and its label; got none")
        first = lines[0][1]
        if len(first) < 2:
            *most, last = DELIMITERS.values()
            between = f"{', '.join(most)} or {last}"
            got = first[0][:80]
            raise DataError(
                self.path, f"must have columns for files and labels, with {between} between them; got {got!r}"
            )
        file, label = (self._column(first, column) for column in self.chosen)
        if file is None:
            file = 1 if label == 0 else 0
        if label is None:
            label = 1 if file == 0 else 0
        if file == label:
            raise DataError(self.path, f"the files and the labels must be in two columns; got {first[file]!r} for both")
        headed = any(isinstance(column, str) for column in self.chosen)
        name = first[file]
        return int(headed or not (name.lower().endswith(ENDINGS) or os.path.isfile(self._located(name)))), file, label

    def _column(self, first, column):
        if column is None:
            return None
        if isinstance(column, str):
            if column in first:
                return first.index(column)
            near = _check.nearest(column, first)
            fix = f". Did you mean {near!r}?" if near else ""
            raise DataError(self.path, f"has no column {column!r}; it has {', '.join(map(repr, first))[:200]}{fix}")
        if column >= len(first):
            raise DataError(self.path, f"has no column {column}; it has {len(first)}, counted from 0")
        return column

    def _located(self, name):
        """The path of a picture; a name with Windows' separators is understood where there is such a file."""
        path = os.path.join(self.folder, name)
        if "\\" in name and not os.path.lexists(path):
            other = os.path.join(self.folder, *name.split("\\"))
            return other if os.path.lexists(other) else path
        return path


def _text(path):
    """The text in a file; DataError for what is none."""
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        data = file.read(size)
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        raise DataError(path, f"must be a text in UTF-8; got other bytes at {error.start}. Save it as UTF-8") from error
    if "\0" in text:
        raise DataError(path, "must be a text in UTF-8; got a file with zeros in it")
    return text


def _are_numbers(path, rows, mode):
    """Whether the labels are to be taken as numbers; DataError where that cannot be, or is not clear."""
    if mode == "class":
        return False
    others = [(line, label) for line, _, label in rows if not _is_number(label)]
    if not others:
        return True
    line, label = others[0]
    if all(_is_number(label.replace(",", ".", 1)) for _, label in others):
        fix = "Write a point in numbers" + ("" if mode == "number" else ", or label_mode='class' if these are names")
        raise DataError(path, f"must not have a decimal comma; got the label {label!r} in line {line}. {fix}")
    if mode == "number":
        raise DataError(path, f"every label must be a number; got {label!r} in line {line}")
    if len(others) < len(rows):
        got = f"of {len(rows):,} labels {len(rows) - len(others):,} are numbers, and {label!r} in line {line} is not"
        raise DataError(
            path, f"the labels must be all numbers or all names; {got}. Mend it, or give label_mode='class'"
        )
    return False


def _is_number(text):
    return bool(NUMBER.fullmatch(text)) and math.isfinite(float(text))
