"""A folder of pictures: what is read and what is not, in which order, and what is said of it."""

import os
import sys
import traceback
import warnings

import numpy as np
import pytest

import minicnn as mc
from minicnn import datasets
from minicnn.datasets import DataError, image_folder, images

pillow = pytest.importorskip("PIL.Image")


def paint(path, value=100, size=(8, 6), **saved):
    """A picture of one grey value, in the format that the name says; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", size, (value,) * 3).save(path, **saved)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three classes of 10, 6 and 4 pictures, whose grey values are all different: 10 * class + number of the file."""
    for number, (name, count) in enumerate((("dog", 6), ("cat", 10), ("eel", 4))):
        for picture in range(count):
            paint(tmp_path / name / f"{picture}.png", 50 * number + 3 * picture)
    return tmp_path


def values(pictures):
    return pictures.x[:, 0, 0, 0].tolist()


def test_folders_are_classes_and_samples_are_shuffled(folder):
    data = image_folder(folder, (4, 5))
    assert data.class_names == ["cat", "dog", "eel"]
    assert (data.x.shape, data.x.dtype, data.y.dtype) == ((20, 4, 5, 3), np.uint8, np.int64)
    assert data.x.flags.c_contiguous
    assert data.x.flags.writeable
    assert (data.skipped, data.validation) == ([], None)
    in_order = [folder / name / f"{n}.png" for name, n in (("cat", 10), ("dog", 6), ("eel", 4)) for n in range(n)]
    order = datasets.order(20, 0)
    assert data.files == [str(in_order[number]) for number in order]
    assert data.y.tolist() == [0 if number < 10 else 1 if number < 16 else 2 for number in order]
    for x, y, file in zip(data.x, data.y, data.files, strict=True):
        np.testing.assert_array_equal(x, images.read_image(file, (4, 5, 3)))
        assert os.path.basename(os.path.dirname(file)) == data.class_names[y]
    again, other = image_folder(folder, (4, 5)), image_folder(folder, (4, 5), seed=1)
    assert again.files == data.files != other.files
    assert sorted(values(other)) == sorted(values(data))


@pytest.mark.parametrize("lazy", [False, True])
def test_the_split_is_stratified_and_loses_nothing(folder, lazy):
    whole, data = image_folder(folder), image_folder(folder, validation_split=0.2, lazy=lazy)
    assert np.bincount(data.validation.y).tolist() == [2, 1, 1]
    assert np.bincount(data.y).tolist() == [8, 5, 3]
    assert data.validation.class_names == data.class_names
    assert data.validation.validation is None
    for part in (data, data.validation):
        assert part.files == [file for file in whole.files if file in part.files]  # the order of the whole
    assert sorted(data.files + data.validation.files) == sorted(whole.files)
    want = datasets.train_test_split(np.arange(20), whole.y, 0.2)  # of its sizes
    assert [len(want[0]), len(want[1])] == [len(data.y), len(data.validation.y)]
    with pytest.raises(ValueError, match=r"validation_split must leave a sample of each of the 3 classes.*at least 3"):
        image_folder(folder, validation_split=0.1)


@pytest.mark.parametrize("batch_size", [1, 6, 19, 50])
def test_lazy_gives_the_same(folder, batch_size):
    arguments = {"image_size": 7, "color_mode": "grayscale", "validation_split": 0.25, "seed": 3}
    eager = image_folder(folder, **arguments)
    lazy = image_folder(folder, **arguments, lazy=True, batch_size=batch_size)
    for one, other in ((eager, lazy), (eager.validation, lazy.validation)):
        assert other.files == one.files
        np.testing.assert_array_equal(other.y, one.y)
        batches = [*other]
        assert [len(x) for x, _ in batches] == [s.stop - s.start for s in datasets.slices(len(one.y), batch_size)]
        assert len(batches) == len(other)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), one.x)
        np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), one.y)
        np.testing.assert_array_equal(other[-1][0], batches[-1][0])
        for beyond in (len(other), -len(other) - 1):
            with pytest.raises(IndexError, match="number of a batch must be in"):
                other[beyond]
    with pytest.raises(AttributeError, match=r"not in memory: take pictures\[i\]"):
        lazy.x  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lazy.nothing  # noqa: B018
    assert repr(lazy) == "<LazyPictures: 15 pictures of 7 x 7, grayscale, 3 classes, 5 for validation>"
    assert repr(eager.validation) == "<Pictures: 5 pictures of 7 x 7, grayscale, 3 classes>"


def test_lazy_reads_only_what_is_asked_for(folder, monkeypatch):
    lazy, read, files = image_folder(folder, 8, lazy=True, batch_size=4), images.read, []
    (x, y), numbers = lazy[0], []
    monkeypatch.setattr(images, "read", lambda file, *arguments: files.append(file) or read(file, *arguments))

    def rows_of(n):
        numbers.append(n)
        return slice(1, 3)

    part, same_y = lazy.read_rows(0, rows_of)
    assert (numbers, files) == ([len(x)], lazy.files[1:3])
    assert np.array_equal(part[1:3], x[1:3])
    assert not part[3:].any()
    assert np.array_equal(same_y, y)


def test_every_format_and_the_first_picture_of_several(tmp_path):
    endings = ["png", "jpg", "gif", "bmp", "tiff", "ppm", "tga", "webp", "ico"]
    endings = [ending for ending in endings if f".{ending}" in pillow.registered_extensions()]
    assert len(endings) >= 8
    for number, ending in enumerate(endings):
        paint(tmp_path / "a" / f"{number}.{ending}", 200)
    frames = [pillow.new("L", (8, 8), value) for value in (200, 0)]
    for ending in ("gif", "tiff"):
        frames[0].save(tmp_path / "a" / f"many.{ending}", save_all=True, append_images=frames[1:])
    paint(tmp_path / "b" / "no ending.png", 200).rename(tmp_path / "b" / "no ending")
    paint(tmp_path / "b" / "x.png", 200).rename(tmp_path / "b" / "a PNG that is called.jpg")
    data = image_folder(tmp_path)
    assert len(data.x) == len(endings) + 4
    assert np.abs(data.x.astype(int) - 200).max() <= 2


def test_what_cannot_be_read_is_skipped_before_the_rest_is_shuffled(folder, tmp_path_factory):
    clean = image_folder(folder, validation_split=0.2)
    noise = np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)
    pillow.fromarray(noise).save(tmp_path_factory.getbasetemp() / "noise.png")
    whole = (tmp_path_factory.getbasetemp() / "noise.png").read_bytes()
    bad = {
        "cat/00.png": whole[: len(whole) // 2],
        "cat/empty.jpg": b"",
        "cat/sheet.xls": b"\xd0\xcf\x11\xe0" + bytes(600),
        "dog/notes.txt": b"not a picture",
        "eel/program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "eel/z.svg": b"<svg/>",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    for lazy in (False, True):
        with pytest.warns(UserWarning, match="6 files skipped|5 files skipped") as warned:
            data = image_folder(folder, validation_split=0.2, lazy=lazy)
        assert len(warned) == 1
        assert warned[0].filename == __file__
        skipped = dict(data.skipped)
        if lazy:  # its beginning is right
            assert str(folder / "cat/00.png") in data.files + data.validation.files
            skipped[str(folder / "cat/00.png")] = "x"
        else:
            assert data.files == clean.files
            np.testing.assert_array_equal(data.x, clean.x)
            np.testing.assert_array_equal(data.validation.y, clean.validation.y)
        assert skipped.keys() == {str(folder / name) for name in bad}
        assert "(it is empty)" in skipped[str(folder / "cat/empty.jpg")]
        assert skipped[str(folder / "eel/z.svg")] == "is not a readable image (of no kind that Pillow knows)"
        text = str(warned[0].message)
        assert text.startswith(f"datasets.image_folder: {folder}: ")
        assert text.count(str(folder) + os.sep) == 5  # not more, however many there are
        assert ("and 1 more in `skipped`" in text) == (not lazy)
    with pytest.raises(DataError, match=r"00\.png: .*Remove the file, or read with lazy=False"):
        list(data) + list(data.validation)


def test_what_pillow_warns_of_is_not_passed_on(folder):
    paint(folder / "cat" / "odd.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert len(image_folder(folder).x) == 21
    assert warned == []
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        images.read_image(folder / "cat" / "odd.png", (8, 8, 3))


def test_what_is_left_out_without_a_word(folder):
    before = image_folder(folder).files
    paint(folder / ".hidden" / "1.png")
    paint(folder / "cat" / ".thumbnails" / "1.png")
    paint(folder / "cat" / "._0.png")
    paint(folder / "__MACOSX" / "cat" / "1.png")
    (folder / "cat" / ".DS_Store").write_bytes(b"Bud1")
    (folder / "labels.csv").write_text("a,b\n")
    (folder / "README").write_text("a,b\n")
    for name in ("Thumbs.db", "dog/THUMBS.DB", "cat/desktop.ini", "eel/Icon\r"):
        (folder / name).write_bytes(b"?")
    paint(folder / "cat" / "@eaDir" / "1.png")
    assert image_folder(folder).files == before


def test_pictures_beside_the_classes_are_named(folder):
    files = [str(paint(folder / name).rename(folder / name[4:])) for name in ("png.a.png", "png.b.jfif.png")]
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="2 files skipped"):
        data = image_folder(folder)
    assert data.skipped == [(file, "lies beside the folders of the classes, in none of them") for file in files]
    assert len(data.x) == 20


def test_folders_in_classes_links_and_circles(folder, tmp_path_factory):
    paint(folder / "cat" / "in" / "deep" / "x.png", 250)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "one" / "y.png", 251)
    try:
        (folder / "fox").symlink_to(elsewhere)
        (folder / "cat" / "z.png").symlink_to(elsewhere / "one" / "y.png")
        (folder / "cat" / "circle").symlink_to(folder / "cat")
        (folder / "cat" / "lost.png").symlink_to(folder / "nowhere")
        (folder / "cat" / "itself.png").symlink_to(folder / "cat" / "itself.png")
    except OSError:
        pytest.skip("no links here")
    with pytest.warns(UserWarning, match="3 files skipped"):
        data = image_folder(folder)
    assert data.class_names == ["cat", "dog", "eel", "fox"]
    assert np.bincount(data.y).tolist() == [12, 6, 4, 1]
    assert sorted(values(data))[-3:] == [250, 251, 251]
    said = {os.path.basename(file): reason for file, reason in data.skipped}
    assert said.pop("circle").startswith(f"is a link to {os.path.realpath(folder / 'cat')}, which is not outside of ")
    assert said.pop("lost.png") == "No such file or directory"
    assert "symbolic links" in said.pop("itself.png")
    assert said == {}


@pytest.mark.parametrize("target", ["..", "../..", "../dog", "../dog/in", "/", "../../elsewhere/up"])
def test_a_link_gives_a_class_nothing_that_has_a_place_of_its_own(folder, target, tmp_path):
    """What lies in the folder of the classes, or around it, is no part of the class from which a link leads there."""
    data = folder / "data"
    for name in ("cat", "dog", "eel"):
        (data / name).mkdir(parents=True)
        (folder / name / "0.png").rename(data / name / "0.png")
    paint(data / "dog" / "in" / "1.png")
    (folder / "elsewhere").mkdir()
    try:
        (folder / "elsewhere" / "up").symlink_to(folder)
        (data / "cat" / "link").symlink_to(target)
    except OSError:
        pytest.skip("no links here")
    with pytest.warns(UserWarning, match="1 file skipped .*link: is a link to .*, which is not outside of"):
        found = image_folder(data)
    assert np.bincount(found.y).tolist() == [1, 2, 1]
    assert [file for file, _ in found.skipped] == [str(data / "cat" / "link")]
    (data / "cat" / "link").unlink()
    (data / "fox").symlink_to(data / "dog")  # a class as well
    with pytest.warns(UserWarning, match="fox: is a link to .*There is no picture of class 'fox'"):
        assert np.bincount(image_folder(data).y, minlength=4).tolist() == [1, 2, 1, 0]


def test_circles_outside_end_and_are_read_once(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "one" / "y.png", 251)
    try:
        (elsewhere / "one" / "again").symlink_to(elsewhere)
        (elsewhere / "back").symlink_to(folder)
        (folder / "cat" / "first").symlink_to(elsewhere)
        (folder / "cat" / "second").symlink_to(elsewhere / "one")
    except OSError:
        pytest.skip("no links here")
    with pytest.warns(UserWarning, match="3 files skipped"):
        data = image_folder(folder)
    assert np.bincount(data.y).tolist() == [11, 6, 4]
    said = {os.path.relpath(file, folder): reason[:30] for file, reason in data.skipped}
    once = "is a link to a folder that has"
    assert said.pop(os.path.join("cat", "first", "back")).startswith("is a link to ")
    assert said == {os.path.join("cat", "first", "one", "again"): once, os.path.join("cat", "second"): once}


def test_folders_deeper_than_the_stack(tmp_path):
    deep = os.path.join(tmp_path, "cat", *["d"] * 300)
    try:
        os.makedirs(deep)
        pillow.new("L", (4, 4)).save(os.path.join(deep, "1.png"))
    except OSError:
        pytest.skip("no such folders here")
    image_folder(tmp_path, class_names=["cat"])  # what is imported late has been
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(traceback.extract_stack()) + 150)
    try:
        data = image_folder(tmp_path, class_names=["cat"])
    finally:
        sys.setrecursionlimit(limit)
    assert data.files == [os.path.join(deep, "1.png")]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="no closed folders here")
def test_folders_that_are_closed(folder):
    (folder / "cat" / "closed").mkdir()
    paint(folder / "cat" / "closed" / "in" / "1.png")
    (folder / "dog" / "link").symlink_to(folder / "cat" / "closed" / "in")
    (folder / "cat" / "closed").chmod(0)
    try:
        with pytest.warns(UserWarning, match="2 files skipped"):
            data = image_folder(folder)
    finally:
        (folder / "cat" / "closed").chmod(0o700)
    assert np.bincount(data.y).tolist() == [10, 6, 4]
    assert {reason for _, reason in data.skipped} >= {"Permission denied"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_skipped(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.warns(UserWarning, match="is not a regular file"):
        assert len(image_folder(folder).x) == 20


def test_names_in_any_script(tmp_path):
    decomposed = "cafe\N{COMBINING ACUTE ACCENT}"  # as macOS writes it
    for name in ("猫", "ворона", decomposed, "Zebra", "a b"):
        paint(tmp_path / name / "я 1.png")
    assert image_folder(tmp_path).class_names == [
        "Zebra",
        "a b",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "ворона",
        "猫",
    ]
    try:
        paint(tmp_path / "bad\n" / "1.png")
    except OSError:
        return
    assert image_folder(tmp_path).class_names[2] == "bad\N{REPLACEMENT CHARACTER}"
    paint(tmp_path / "bad\t" / "1.png")
    with pytest.raises(DataError, match=r"is of the class .*, and so is .*Rename one of them"):
        image_folder(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    paint(tmp_path / "b" / "1.png")
    os.link(tmp_path / "b" / "1.png", os.path.join(folder, b"\xff.png"))
    data = image_folder(os.fsencode(tmp_path))
    assert data.class_names == ["b", "caf\N{REPLACEMENT CHARACTER}"]
    data.class_names = data.class_names[::-1]
    with pytest.raises(ValueError, match="must have every class that there is; got 'b'"):
        image_folder(tmp_path, class_names=["caf\N{REPLACEMENT CHARACTER}"])


@pytest.mark.parametrize("lazy", [False, True])
def test_a_model_learns_how_its_pictures_were_prepared(folder, lazy):
    def compiled():
        model = mc.Sequential([mc.layers.Flatten(), mc.layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    cropped = image_folder(folder, 4, crop_to_aspect_ratio=True, validation_split=0.2, lazy=lazy)
    padded = image_folder(folder, 4, pad_to_aspect_ratio=True, lazy=lazy)
    assert (cropped.image_fit, cropped.validation.image_fit, padded.image_fit) == ("crop", "crop", "pad")
    assert image_folder(folder, 4, lazy=lazy).image_fit == "stretch"
    model = compiled()
    model.fit(cropped, validation_data=cropped.validation, class_weight={"cat": 2.0}, verbose=0)
    assert model.image_fit == "crop"
    model.evaluate(cropped.validation)
    for use in (model.evaluate, model.predict, lambda data: model.fit(data, verbose=0)):
        with pytest.warns(
            UserWarning, match="prepared in another way, 'pad', than those of training, 'crop'"
        ) as warned:
            use(padded)
        assert warned[0].filename == __file__
    assert model.image_fit == "crop"
    other = compiled()
    other.fit(cropped.x, cropped.y, verbose=0) if not lazy else other.fit([*cropped], verbose=0)
    assert other.image_fit is None


def test_class_names_choose_the_numbers(folder):
    names = ["eel", "dog", "cow", "cat"]
    with pytest.warns(UserWarning, match="There is no picture of class 'cow'"):
        data = image_folder(folder, class_names=names)
    assert data.class_names == names
    assert np.bincount(data.y).tolist() == [4, 6, 0, 10]
    with pytest.raises(ValueError, match=r"must have every class that there is; got 'eel'. Did you mean 'eels'\?"):
        image_folder(folder, class_names=["cat", "dog", "eels"])


def test_doubts_are_said(tmp_path):
    for name in ("train/cat", "train/dog", "Test/cat", "Test/dog"):
        paint(tmp_path / name / "1.png")
    with pytest.warns(UserWarning, match=r"called 'Test', 'train': is .*Test the folder that is meant\?") as warned:
        image_folder(tmp_path)
    assert len(warned) == 1
    paint(tmp_path / "all" / "pics" / "cat" / "1.png")
    with pytest.warns(UserWarning, match=r"one class only, 'pics': do the folders of the classes lie in it\?"):
        image_folder(tmp_path / "all")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.warns(UserWarning, match="There is no picture of class 'empty'") as warned:
        assert image_folder(tmp_path / "train").class_names == ["cat", "dog", "empty"]
    assert len(warned) == 1


def test_folders_that_are_none(tmp_path, folder):
    for count in range(2):
        paint(tmp_path / "flat" / f"{count}.jpg")
    with pytest.raises(
        DataError, match=r"flat: must hold a folder for each class.*flat.cat.1.jpg; got 2 pictures and no.*image_csv"
    ):
        image_folder(tmp_path / "flat")
    (tmp_path / "nothing" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"nothing: holds no picture that can be read$"):
        image_folder(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"cat: must hold a folder for each class.*; got nothing in it and no folder$"):
        image_folder(tmp_path / "nothing" / "cat")
    (tmp_path / "nothing" / "cat" / "x").write_bytes(b"?")
    for lazy in (False, True):
        with pytest.raises(DataError, match=r"can be read; .*x: is not a readable image"):
            image_folder(tmp_path / "nothing", lazy=lazy)
    with pytest.raises(FileNotFoundError):
        image_folder(tmp_path / "absent")
    with pytest.raises(NotADirectoryError):
        image_folder(folder / "cat" / "0.png")


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ({"image_size": 0}, ValueError, "image_size must be a whole number >= 1"),
    ({"image_size": (8, 8, 3)}, ValueError, "image_size must be a whole number or a pair"),
    ({"image_size": 8.0}, TypeError, "image_size must be a whole number"),
    ({"color_mode": "grey"}, ValueError, "color_mode must be one of 'rgb', 'grayscale', 'rgba'; got 'grey'"),
    ({"validation_split": 1.0}, ValueError, r"validation_split must be a number in \[0.*, 1.*\); got 1.0"),
    ({"validation_split": True}, TypeError, "validation_split must be a number"),
    ({"seed": -1}, ValueError, "seed must be a whole number"),
    ({"lazy": 1}, TypeError, "lazy must be True or False"),
    ({"batch_size": 0}, ValueError, "batch_size must be a whole number >= 1"),
    ({"class_names": "cat"}, TypeError, "class_names must be a list of strings"),
    ({"class_names": ["cat", "cat"]}, ValueError, "must be different from each other; got 'cat' twice"),
    ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, ValueError, "only one can be True; got both"),
    ({"crop_to_aspect_ratio": "yes"}, TypeError, "crop_to_aspect_ratio must be True or False"),
])  # fmt: skip
def test_bad_arguments(tmp_path, arguments, error, text):
    with pytest.raises(error, match=f"datasets.image_folder: .*{text}"):
        image_folder(tmp_path, **arguments)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for lazy in (False, True):
        with pytest.raises(ImportError, match=r'pip install "minicnn\[images\]"'):
            image_folder(folder, lazy=lazy)


# ---- in training ----


def model_of(data, units=3):
    model = mc.Sequential(
        [mc.layers.Rescaling(1 / 255), mc.layers.Flatten(), mc.layers.Dense(units, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    return model


def test_fit_and_evaluate_take_pictures(folder):
    data = image_folder(folder, 4, validation_split=0.2)
    one, other = model_of(data), model_of(data)
    held = data.validation.x, data.validation.y
    history = one.fit(data, epochs=2, verbose=0, validation_data=data.validation).history
    assert other.fit(data.x, data.y, epochs=2, verbose=0, validation_data=held).history == history
    assert one.fingerprint() == other.fingerprint()
    assert one.evaluate(data.validation) == other.evaluate(*held)
    assert (one.class_names, other.class_names) == (["cat", "dog", "eel"], None)
    for call in (one.fit, one.evaluate):
        with pytest.raises(TypeError, match="y must be left out, for the pictures have their labels; got ndarray"):
            call(data, data.y)


def test_fit_holds_the_numbers_of_classes_to_their_names(folder):
    data = image_folder(folder, 4)
    model = model_of(data)
    model.class_names = ["dog", "cat", "eel"]
    before = model.class_names
    for call in (lambda: model.fit(data, verbose=0), lambda: model.evaluate(data),
                 lambda: model.fit(data.x, data.y, validation_data=data, verbose=0)):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"must be the model's, \['dog', 'cat', 'eel'\], in this order; got \['cat'"
        ):
            call()
    model.fit(image_folder(folder, 4, class_names=model.class_names), verbose=0)
    assert model.class_names is before
    wide = model_of(data, 5)
    with pytest.raises(ValueError, match="class_names must have 5 names, one for each class"):
        wide.fit(data, verbose=0)
    regression = mc.Sequential([mc.layers.Flatten(), mc.layers.Dense(1)])
    regression.compile("adam", "mse")
    regression.fit(data, verbose=0)  # class numbers as numbers
    assert regression.class_names is None


def test_lazy_pictures_in_training(folder):
    data = image_folder(folder, 4, validation_split=0.2, lazy=True, batch_size=5)
    eager = image_folder(folder, 4, validation_split=0.2)
    model, again = model_of(data), model_of(data)
    model.fit(data, epochs=3, verbose=0, validation_data=data.validation)
    again.fit(image_folder(folder, 4, validation_split=0.2, lazy=True, batch_size=5), epochs=3, verbose=0)
    assert model.fingerprint() == again.fingerprint()
    assert model.class_names == ["cat", "dog", "eel"]
    assert model.input_range == (eager.x.min(), eager.x.max())
    assert model.evaluate(data) == pytest.approx(model.evaluate(eager), rel=1e-5)
    np.testing.assert_array_equal(model.predict(data), model.predict(eager.x))
    np.testing.assert_array_equal(model.predict(eager), model.predict(eager.x))
    model.class_names = ["x", "y", "z"]
    with pytest.raises(ValueError, match="the classes of the data must be the model's"):
        model.fit(data, verbose=0)
    os.truncate(data.files[-1], 40)
    with pytest.raises(DataError, match="Remove the file, or read with lazy=False"):
        again.fit(data, verbose=0)
