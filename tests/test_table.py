"""Pictures that a table names: which columns, what stands between them, what the labels are."""

import os

import numpy as np
import pytest

from minicnn.datasets import DataError, Pictures, image_csv, table

pillow = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """0.png to 7.png, of the grey values 0, 30, 60 ..., and 0-0.png to 3-19.png."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    for number in range(8):
        pillow.new("L", (9, 9), 30 * number).save(folder / f"{number}.png")
    for number in range(20):
        pillow.new("L", (9, 9), 30 * (number % 8)).save(folder / f"{number % 8}-{number}.png")
    pillow.new("L", (9, 9), 0).save(folder / "no ending", format="png")
    pillow.new("L", (9, 9), 250).save(folder / "sub" / "a b.png")
    return folder


@pytest.fixture
def read(tmp_path, folder):
    """A function of a text (or bytes) that reads it as a table; what comes back is in the order of the files' names."""

    def read(text, **arguments):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return image_csv(path, folder, 4, **arguments)

    return read


def rows(data):
    """{name of the file: label}, which the pictures must confirm."""
    found = {}
    for x, y, file in zip(data.x, data.y, data.files, strict=True):
        name = os.path.basename(file)
        assert (x == (250 if name == "a b.png" else 30 * int(name[0]))).all()
        found[name] = y.item() if data.class_names is None else data.class_names[y]
    return found


WANTED = {"0.png": "cat", "1.png": "dog", "2.png": "cat"}


@pytest.mark.parametrize("text", [
    "file,label\n0.png,cat\n1.png,dog\n2.png,cat\n", "0.png,cat\n1.png,dog\n2.png,cat",
    "id\tclass\r\n0.png\tcat\r\n1.png\tdog\r\n2.png\tcat\r\n",
    "\ufefffile;label\n0.png;cat\n\n1.png;dog\n;;\n2.png;cat\n", "0.png|cat|x,y,z\n1.png|dog|u,v,w\n2.png|cat|,,\n",
    '"0.png", "cat"\n"1.png" ,dog\n 2.png , cat \n', "file,label\n0.png,cat\n1.png,dog\n2.png,cat\n".encode("utf-16"),
])  # fmt: skip
def test_forms_of_tables(read, text):
    data = read(text)
    assert isinstance(data, Pictures)
    assert rows(data) == WANTED
    assert (data.class_names, data.y.dtype, data.skipped) == (["cat", "dog"], np.int64, [])


def test_a_byte_order_mark_is_no_part_of_a_name(read):
    assert rows(read("\ufeff0.png,cat\n1.png,dog\n")) == {"0.png": "cat", "1.png": "dog"}
    assert rows(read("\ufefffile,label\n0.png,cat\n1.png,dog\n", file_column="file")) == {
        "0.png": "cat",
        "1.png": "dog",
    }


def test_the_delimiter_that_the_table_says(read):
    for delimiter in ";,|:":
        text = f"sep={delimiter}\r\nfile,label\r\n0.png,cat\r\n1.png,cat\r\n1.png,dog\r\n".replace(",", delimiter)
        with pytest.raises(DataError, match="'cat' in line 4 and 'dog' in line 5"):
            read(text)
        assert rows(read(text.replace("1.png", "2.png", 1))) == {"0.png": "cat", "2.png": "cat", "1.png": "dog"}


@pytest.mark.parametrize("text", [
    "gone.jfif,cat\n0.png,dog\n", "gone.TGA,cat\n0.png,dog\n", "gone,cat\nno ending,dog\n1.png,cat\n",
    "gone,3.5\nno ending,1\n", "gone.xyz,3\n0.png,1\n",
])  # fmt: skip
def test_a_first_line_that_names_a_missing_picture_is_no_heading(read, text):
    with pytest.warns(UserWarning, match="1 file skipped"):
        data = read(text)
    assert [os.path.basename(file) for file, _ in data.skipped] == [text.split(",")[0]]


@pytest.mark.parametrize("text", ["id,class\n0.png,cat\n1.png,dog\n", "image.path,x\n0.png,cat\n1.png,dog\n",
                                  "file,cat\n0.png,cat\n1.png,dog\n"])  # fmt: skip
def test_headings_of_any_words(read, text):
    data = read(text)
    assert (rows(data), data.skipped) == ({"0.png": "cat", "1.png": "dog"}, [])


def test_the_delimiter_is_the_one_that_makes_files(read):
    text = "file;x,y\n0.png;1,5\n1.png;2,5\n"  # two columns by commas as well
    assert rows(read(text, label_mode="class")) == {"0.png": "1,5", "1.png": "2,5"}


def test_columns(read):
    text = 'n,what,kind,picture\n1,x,"a, b",0.png\n2,y,"c ""d""",1.png\n'
    wanted = {"0.png": "a, b", "1.png": 'c "d"'}
    assert rows(read(text, file_column="picture", label_column="kind")) == wanted
    assert rows(read(text, file_column=3, label_column="kind")) == wanted
    assert rows(read(text, file_column=3, label_column=2)) == wanted
    assert rows(read(text, file_column=3)) == {"0.png": 1, "1.png": 2}  # the first of the others
    assert rows(read("cat,0.png\ndog,1.png\n", label_column=0)) == {"0.png": "cat", "1.png": "dog"}
    assert rows(read("0.png:cat\n1.png:dog\n", delimiter=":")) == {"0.png": "cat", "1.png": "dog"}
    for arguments, said in (
        (
            {"file_column": "Picture"},
            r"has no column 'Picture'; it has 'n', 'what', 'kind', 'picture'. Did you mean 'picture'\?",
        ),
        ({"label_column": 4}, "has no column 4; it has 4, counted from 0"),
        ({"file_column": 3, "label_column": "picture"}, "must be in two columns; got 'picture' for both"),
        ({"delimiter": ";"}, "columns for files and labels, with a comma, a semicolon, a tab or a bar between them"),
    ):
        with pytest.raises(DataError, match=rf"labels\.csv: .*{said}"):
            read(text, **arguments)


def test_numbers_and_names(read):
    whole = read("0.png,3\n1.png,10\n2.png,-1\n")
    assert (rows(whole), whole.y.dtype, whole.class_names) == ({"0.png": 3, "1.png": 10, "2.png": -1}, np.int64, None)
    real = read("0.png,3\n1.png,1e1\n2.png,.5\n")
    assert (rows(real), real.y.dtype) == ({"0.png": 3, "1.png": 10, "2.png": 0.5}, np.float64)
    named = read("0.png,3\n1.png,10\n2.png,3\n", label_mode="class")
    assert (rows(named), named.class_names) == ({"0.png": "3", "1.png": "10", "2.png": "3"}, ["10", "3"])
    ordered = read("0.png,3\n1.png,10\n", class_names=["3", "10"])
    assert (rows(ordered), ordered.class_names) == ({"0.png": "3", "1.png": "10"}, ["3", "10"])
    assert read("0.png,x\n1.png,3\n", label_mode="class").class_names == ["3", "x"]
    for text, mode, said in (
        ("0.png,3\n1.png,N/A\n", "auto", "of 2 labels 1 are numbers, and 'N/A' in line 2 is not"),
        ("0.png,3\n1.png,N/A\n", "number", "every label must be a number; got 'N/A' in line 2"),
        ("0.png,3\n1.png,nan\n", "number", "every label must be a number; got 'nan'"),
        ("0.png,1e999\n1.png,3\n", "number", "every label must be a number; got '1e999'"),
        (
            "0.png;3,5\n1.png;1,5\n",
            "auto",
            "must not have a decimal comma; got the label '3,5' in line 1. Write a point",
        ),
    ):
        with pytest.raises(DataError, match=said):
            read(text, label_mode=mode)


def test_rows_without_a_picture_are_skipped(read, folder):
    with pytest.warns(UserWarning, match="4 files skipped") as warned:
        data = read("0.png,cat\nlost.png,eel\n1.png,\n,dog\n2.png\n3.png,dog\n")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert rows(data) == {"0.png": "cat", "3.png": "dog"}
    assert data.class_names == ["cat", "dog", "eel"]  # as a folder whose pictures cannot be read
    said = {os.path.basename(file): reason for file, reason in data.skipped}
    assert said == {
        "lost.png": "No such file or directory", "1.png": "has no label in line 3",
        "labels.csv, line 4": "names no file",
        "2.png": "has no label in line 5",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"labels\.csv: holds no picture that can be read; .*no\.png: No such file"):
        read("no.png,cat\n")


def test_rows_with_too_few_fields_are_skipped(read):
    with pytest.warns(UserWarning, match="2 files skipped"):
        data = read("file,place,label,by\n0.png,x,cat,\n1.png,cat,me\n2.png,x,dog,\n3.png,x\n")
    assert rows(data) | data_of(data) == {"0.png": "x", "2.png": "x"} | {
        "1.png": "has 3 fields in line 3, and the first line has 4",
        "3.png": "has 2 fields in line 5, and the first line has 4",
    }
    assert read("file,label,,\n0.png,cat\n1.png,dog,,,,\n").skipped == []  # empty ones at the end do not count


def data_of(data):
    return {os.path.basename(file): reason for file, reason in data.skipped}


def test_a_file_has_one_label(read, folder):
    text = "file,label\n0.png,cat\n1.png,dog\n./0.png,cat\n"
    with pytest.warns(UserWarning, match="1 file skipped"):
        data = read(text)
    assert (rows(data), data_of(data)) == (
        {"0.png": "cat", "1.png": "dog"},
        {"0.png": "is in line 4, as in line 2: it is taken once"},
    )
    for more, said in (
        (f"{folder / '1.png'},cat\n", "'dog' in line 3 and 'cat' in line 5"),
        ("0.png,Cat\n", "'cat' in"),
    ):
        with pytest.raises(DataError, match=f"a file must have one label; .*has {said}"):
            read(text + more)
    with pytest.raises(DataError, match="'1' in line 1 and '2' in line 2"):
        read("0.png,1\n0.png,2\n")


@pytest.mark.parametrize(("text", "said"), [
    ('0.png,cat\n1.png,"dog\n2.png,cat\n', "in the row that begins in line 2. Is a quote not closed there?"),
    ('0.png,cat\n1.png,"dog', "in the row that begins in line 2. Is a quote not closed there?"),
    ('"0.png,cat\n1.png,"dog"\n2.png,cat\n', "in the row that begins in line 1. Is a quote not closed there?"),
    ('0.png,"cat\n1.png,dog"\n2.png,cat\n', "line break in a file's name or a label, in the row that begins in line 1"),
    ('f,l,say\n0.png,cat,"a\nb"\n1.png,dog,"x\n2.png,cat,"y"\n', "in the row that begins in line 4. Is a quote"),
    ("0.png,cat\n1.png,dog\n2,5.png,cat\n", r"as many fields as the first one; got 3 in line 3, 2 in the first. Put"),
    ("0.png,cat\n1.png,dog, the black one\n", "got 3 in line 2, 2 in the first"),
    ("0.png;cat\n1.png;dog;x\n", "got 3 in line 2, 2 in the first"),
    ('f,l\n\n0.png,cat\n\n"1.png","dog" x,y\n', "got 3 in line 5, 2 in the first"),
    ("0.png,cat\n1.png,a\a\n2.png,a\b\n", "must not become the same name of a class.*another one in line 3"),
])  # fmt: skip
def test_lines_that_are_wrong(read, text, said):
    with pytest.raises(DataError, match=rf"labels\.csv: .*{said}"):
        read(text)


def test_quoted_line_breaks_in_other_columns(read):
    text = 'file,label,say\n0.png,cat,"a ""b""\n,c"\n1.png,dog,"\n\n"\n"2.png","cat",\n1.png,cat,\n'
    with pytest.raises(DataError, match="'dog' in line 4 and 'cat' in line 8"):
        read(text)
    assert rows(read(text.removesuffix("1.png,cat,\n"))) == WANTED


def test_paths(read, folder, tmp_path):
    assert rows(read("sub/a b.png,cat\n0.png,dog\n")) == {"a b.png": "cat", "0.png": "dog"}
    assert rows(read("sub\\a b.png,cat\n0.png,dog\n")) == {"a b.png": "cat", "0.png": "dog"}  # written on Windows
    assert rows(read(f"{folder / '1.png'},cat\n0.png,dog\n")) == {"1.png": "cat", "0.png": "dog"}
    (folder / "here.csv").write_text("0.png,cat\n1.png,dog\n")
    assert rows(image_csv(folder / "here.csv", image_size=4)) == {"0.png": "cat", "1.png": "dog"}


def test_the_split_and_lazy(read):
    text = "".join(f"{number % 8}-{number}.png,{'ab'[number % 2]}\n" for number in range(20))
    data = read(text, validation_split=0.2, seed=2)
    assert (np.bincount(data.y).tolist(), np.bincount(data.validation.y).tolist()) == ([8, 8], [2, 2])
    lazy = read(text, validation_split=0.2, seed=2, lazy=True)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in lazy.validation]), data.validation.x)
    numbers = read(text.replace("a", "7").replace("b", "8"), validation_split=0.2, seed=2)
    assert numbers.y.tolist() == (data.y + 7).tolist()
    ages = "".join(f"{number % 8}-{number}.png,{number}\n" for number in range(20))
    assert len(read(ages, validation_split=0.2).validation.y) == 4  # no two are alike: divided plainly
    with pytest.raises(ValueError, match="validation_split must leave samples on both sides of 1"):
        read("0.png,7\n", validation_split=0.2)


@pytest.mark.parametrize(("content", "said"), [
    (b"", "must have a line for each picture"), (b"file,label\n", "must have a line for each picture"),
    (b"hello", "a tab or a bar between them; got 'hello'"),
    (b"caf\xe9,x\n", "must be a text in UTF-8; got other bytes at 3"),
    (b"a\0.png,x\n", "got a file with zeros in it"), (b"0.png," + b"x" * 200_000, "is not a table in CSV"),
])  # fmt: skip
def test_tables_that_are_none(read, content, said):
    with pytest.raises(DataError, match=rf"labels\.csv: .*{said}"):
        read(content)


def test_files_that_are_no_tables_by_far(folder, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"0\.png: must be a table of pictures; it is a picture"):
        image_csv(folder / "0.png")
    monkeypatch.setattr(table, "MOST_TEXT", 1023)
    (tmp_path / "film.mp4").write_bytes(b"0.png,cat\n" * 200)
    with pytest.raises(DataError, match=r"film\.mp4: is too large for a table; got 2,000 bytes"):
        image_csv(tmp_path / "film.mp4")


def test_one_class_is_a_doubt(read):
    with pytest.warns(UserWarning, match="There is one class only, 'cat'"):
        read("0.png,cat\n1.png,cat\n")


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ({"label_mode": "int"}, ValueError, "label_mode must be one of 'auto', 'class', 'number'"),
    ({"delimiter": ",,"}, ValueError, "delimiter must be None or a single character"),
    ({"delimiter": '"'}, ValueError, "delimiter must be None or a single character"),
    ({"file_column": -1}, ValueError, "file_column must be a whole number >= 0"),
    ({"label_column": 1.5}, TypeError, "label_column must be a whole number"),
    ({"class_names": ["a"], "label_mode": "number"}, ValueError, "class_names go with labels that are names"),
    ({"class_names": ["a", "b"]}, ValueError, "class_names must have every class that there is; got 'cat'"),
    ({"image_size": None}, TypeError, "image_size must be a whole number"),
    ({"color_mode": "bgr"}, ValueError, "color_mode must be one of"),
])  # fmt: skip
def test_bad_arguments(tmp_path, folder, arguments, error, text):
    (tmp_path / "t.csv").write_text("0.png,cat\n")
    with pytest.raises(error, match=text):
        image_csv(tmp_path / "t.csv", folder, **arguments)


def test_no_table(tmp_path):
    with pytest.raises(FileNotFoundError):
        image_csv(tmp_path / "no.csv")
    with pytest.raises(IsADirectoryError):
        image_csv(tmp_path)
    assert table.DELIMITERS[","] == "a comma"
