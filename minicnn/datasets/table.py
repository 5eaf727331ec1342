"""Pictures that a table names, a file in CSV, with their labels."""

import itertools
import math
import os
import re
import unicodedata

import numpy as np

from minicnn import _check, _files
from minicnn.datasets import images
from minicnn.datasets.errors import DataError
from minicnn.datasets.pictures import Choice, class_name, collected, numbering

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
_SAMPLE = 50  # lines that are looked at to see what stands between the columns
MOST_TEXT = 2**30  # bytes
_END = "\ud800"  # a line that no text holds, set after the last one: within a quote that is not closed it is no line


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
      the first line is a heading unless it names a file that is there or that is called like a picture; or, where not
      all others name files with an ending, has a number or another line's label for a label.
    - ``label_mode``: "class": labels are the names of classes, numbered in alphabetical order.  "number": they are
      numbers, as for a regression, or numbers of classes, and y is int64 where all are whole, else float64, and
      ``class_names`` None.  "auto": "number" where all labels are numbers, "class" where none is.
    - ``delimiter``: what stands between columns; None for the comma, semicolon, tab or bar by which the table names the
      most files.
    - The other arguments are those of ``image_folder``.  Classes have their share in ``validation``; so have numbers
      where they are whole and there are enough of each.

    The text is UTF-8 (with or without a byte order mark) or UTF-16 with one; fields may be quoted, and a first line
    "sep=;" says the delimiter.  Rows whose file is missing or cannot be read, rows without a file or label or with
    fewer fields than the first line, and all but the first of those that say the same of a file, are named in
    ``skipped`` and in one warning.

    FileNotFoundError or PermissionError for the table; DataError, with the line, if it is no such table: a quote is not
    closed, a line has more fields than the first one, a file has two labels, some labels are numbers and others are
    not; DataError if no picture can be read; ValueError and TypeError for wrong arguments.
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
        labels = _names(path, table.rows)
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
        if (said := re.match('sep=([^"\r\n])(?=[\r\n])', text)) is not None:  # as Excel writes and reads it
            text, delimiter = text[said.end() :], delimiter or said[1]
        if delimiter is None:
            delimiter = self._delimiter(text)
        lines = self._parsed(text, delimiter)
        begin, *columns = self._columns(lines)
        self.rows, self.skipped = [], []
        for line, fields in lines[begin:]:
            self._take(line, fields, columns, lines[0][1])
        if not self.rows:
            raise DataError(path, "must have a line for each picture, with its file and its label; got none")
        self._require_one_label()

    def _take(self, line, fields, columns, first):
        """The row that a line is, or why it is none."""
        file, label = (fields[column] if column < len(fields) else "" for column in columns)
        if any("\n" in field or "\r" in field for field in (file, label)):
            what = f"has a line break in a file's name or a label, in the row that begins in line {line}"
            raise DataError(self.path, f"{what}. Is there a quote too many?")
        if len(first) < len(_filled(fields)):
            got = f"got {len(_filled(fields))} in line {line}, {len(first)} in the first"
            fix = "Put what holds a delimiter into quotes"
            raise DataError(self.path, f"every line must have as many fields as the first one; {got}. {fix}")
        if not file:
            self.skipped.append((f"{self.path}, line {line}", "names no file"))
        elif not label:
            self.skipped.append((self._located(file), f"has no label in line {line}"))
        elif len(fields) < len(_filled(first)):
            lacking = f"has {len(fields)} fields in line {line}, and the first line has {len(_filled(first))}"
            self.skipped.append((self._located(file), lacking))
        else:
            self.rows.append((line, self._located(file), label))

    def _require_one_label(self):
        """DataError for a file with two labels; one that has the same label again is taken once."""
        known, rows = {}, []
        for line, file, label in self.rows:
            before, its = known.setdefault(os.path.abspath(file), (line, label))
            if its != label:
                both = f"{its!r} in line {before} and {label!r} in line {line}"
                raise DataError(self.path, f"a file must have one label; {file} has {both}")
            if before == line:
                rows.append((line, file, label))
            else:
                self.skipped.append((file, f"is in line {line}, as in line {before}: it is taken once"))
        self.rows = rows

    def _parsed(self, text, delimiter, whole=True):
        """(number of the line in which it begins, its fields) of all rows that are not empty; of the first ``_SAMPLE``
        where the ``whole`` table is not asked for."""
        rows = list(itertools.islice(self._read(text, delimiter), None if whole else _SAMPLE))
        if whole and any(begin < end for begin, end, _ in rows):  # then all quotes must be as they should be
            for _ in self._read(text, delimiter, strict=True):
                pass
        stripped = [(begin, [field.strip() for field in fields]) for begin, _, fields in rows]
        return [(line, fields) for line, fields in stripped if any(fields) and _END not in fields[-1]]

    def _read(self, text, delimiter, strict=False):
        """(its first line, its last line, its fields) of every row; not ``strict``, a field may go on after a quote."""
        import csv  # late, for the sake of ``import minicnn``
        import io

        lines = itertools.chain(io.StringIO(text, newline=""), ["\n", _END])
        reader, end = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict), 0
        try:
            for fields in reader:
                yield end + 1, reader.line_num, fields
                end = reader.line_num
        except csv.Error as error:
            what = f"is not a table in CSV: {error}, in the row that begins in line {end + 1}"
            raise DataError(self.path, f"{what}. Is a quote not closed there?") from error

    def _delimiter(self, text):
        """That of DELIMITERS by which the lines name the most files that there are, or else are the most alike."""
        best, best_score = None, None
        for delimiter in DELIMITERS:
            lines = self._parsed(text, delimiter, whole=False)
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
        return int(headed or self._is_heading(lines, file, label)), file, label

    def _is_heading(self, lines, file, label):
        """Whether the first line names columns, not a picture with its label."""
        name, said = (lines[0][1][column] for column in (file, label))
        if os.path.isfile(self._located(name)) or images.is_called_picture(name):
            return False
        others = [fields for _, fields in lines[1:] if len(fields) > max(file, label)]
        if not os.path.splitext(name)[1] and all(os.path.splitext(fields[file])[1] for fields in others):
            return True
        return not is_number(said) and said not in {fields[label] for fields in others}

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


def _filled(fields):
    """The fields without empty ones at the end."""
    count = len(fields)
    while count and not fields[count - 1]:
        count -= 1
    return fields[:count]


def _names(path, rows):
    """The labels of the rows as names of classes; DataError where two of them become one."""
    names, known = [], {}
    for line, _, label in rows:
        label = unicodedata.normalize("NFC", label)
        name = class_name(label)
        if known.setdefault(name, label) != label:
            what = f"two labels must not become the same name of a class, {name!r}; got another one in line {line}"
            raise DataError(path, f"{what}. Take letters that can be printed")
        names.append(name)
    return names


def _text(path):
    """The text in a file; DataError for what is none."""
    file, size = _files.open_regular(path, lambda what: DataError(path, what))
    with file:
        if size > MOST_TEXT:
            raise DataError(path, f"is too large for a table; got {size:,} bytes")
        data = file.read(size)
    coding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(coding)
    except UnicodeDecodeError as error:
        if images.is_picture(path):
            raise DataError(path, "must be a table of pictures; it is a picture") from None
        raise DataError(path, f"must be a text in UTF-8; got other bytes at {error.start}. Save it as UTF-8") from error
    if "\0" in text:
        raise DataError(path, "must be a text in UTF-8; got a file with zeros in it")
    return text


def _are_numbers(path, rows, mode):
    """Whether the labels are to be taken as numbers; DataError where that cannot be, or is not clear."""
    if mode == "class":
        return False
    others = [(line, label) for line, _, label in rows if not is_number(label)]
    if not others:
        return True
    line, label = others[0]
    if all(is_number(label.replace(",", ".", 1)) for _, label in others):
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


def is_number(text):
    """Whether a label can be taken for a number."""
    return bool(NUMBER.fullmatch(text)) and math.isfinite(float(text))
