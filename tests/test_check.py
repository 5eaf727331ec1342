"""The checks of arguments and the wording of their errors."""

import decimal
import fractions
import math

import numpy as np
import pytest

from minicnn import _check


def raised(error, call, *arguments, **more):
    """The text of the error, of exactly this type, that the call raises."""
    with pytest.raises(error) as caught:
        call("Where", *arguments, **more)
    assert type(caught.value) is error
    return str(caught.value)


# ---- the sentence ----


def test_message():
    assert _check.message("Conv2D", "filters must be >= 1", 0) == "Conv2D: filters must be >= 1; got 0"
    assert _check.message("A.b", "must be x", "y", "Try z") == "A.b: must be x; got 'y'. Try z"
    assert _check.message("A", "must be x", _check.Shown("as it is")) == "A: must be x; got as it is"
    assert _check.message("A", "must be x", _check.kind("3")) == "A: must be x; got '3' (str)"
    assert _check.message("A", "must be x", _check.shape_of(np.zeros((2, 3)))) == "A: must be x; got shape (2, 3)"


def test_long_values_are_shortened():
    text = _check.message("A", "must be x", "y" * 1000)
    assert text.endswith("yyy...")
    assert len(text) == len("A: must be x; got ") + 200
    assert "..." not in _check.message("A", "must be x", "y" * 198)
    assert "\n" not in _check.message("A", "must be x", _check.shape_of(np.zeros((100, 100))))


def test_a_note_takes_the_place_of_a_former_one_about_the_same():
    error = ValueError("once")
    error.add_note("somebody's own")
    for text in ("in batch 1", "in batch 2", "in batch 2"):
        _check.note(error, "place", text)
        _check.note(error, "member", "this was member 1")
    assert error.__notes__ == ["somebody's own", "in batch 2", "this was member 1"]
    error.__notes__ = "not a list"
    _check.note(error, "place", "in batch 3")
    assert error.__notes__ == "not a list"


def test_a_warning_is_in_the_name_of_who_called():
    for depth in range(3):
        with pytest.warns(UserWarning, match="^said$") as caught:
            _nested(depth)
        assert caught[0].filename == __file__
        assert caught[0].lineno == _nested.__code__.co_firstlineno + 1


def _nested(depth):
    return _check.warn("said") if depth == 0 else _check.each("", "", [depth - 1], "", lambda *_: _nested(depth - 1))


# ---- numbers ----


@pytest.mark.parametrize("value", [0, 5, np.int8(3), np.uint64(7), -(2**70)])
def test_whole_numbers(value):
    found = _check.integer("Where", "n", value)
    assert found == value
    assert type(found) is int


@pytest.mark.parametrize(
    "value", [2.0, np.float32(2), "3", None, True, np.True_, [1], 1j, np.array([1]), math.nan, decimal.Decimal(2)]
)
def test_what_is_no_whole_number(value):
    text = raised(TypeError, _check.integer, "n", value, 1)
    assert text == f"Where: n must be a whole number >= 1; got {value!r} ({type(value).__name__})"


def test_whole_numbers_out_of_range():
    assert raised(ValueError, _check.integer, "n", 0, 1) == "Where: n must be a whole number >= 1; got 0"
    assert raised(ValueError, _check.integer, "n", 5, 1, 4) == "Where: n must be a whole number in [1, 4]; got 5"
    assert raised(ValueError, _check.integer, "n", 5, None, 4) == "Where: n must be a whole number <= 4; got 5"
    assert raised(ValueError, _check.integer, "n", np.int8(-1), 0) == "Where: n must be a whole number >= 0; got -1"
    assert _check.integer("Where", "n", 1, 1, 4) == 1
    assert _check.integer("Where", "n", 4, 1, 4) == 4


def test_pairs():
    for value in (3, np.int64(3), (3, 3), [3, 3], np.array([3, 3])):
        found = _check.pair("Where", "size", value)
        assert found == (3, 3)
        assert all(type(number) is int for number in found)
    assert _check.pair("Where", "size", (0, 2), low=0) == (0, 2)
    for value in ((1,), (1, 2, 3), [], np.arange(3)):
        text = raised(ValueError, _check.pair, "size", value)
        assert text == f"Where: size must be a whole number or a pair of them; got {value!r}"
    assert raised(ValueError, _check.pair, "size", (1, 0)) == "Where: size must be a whole number >= 1; got 0"
    for value in ("33", (1, 2.0), (True, 1), None, {1: 2}, np.ones((2, 2))):
        assert raised(TypeError, _check.pair, "size", value).startswith("Where: size must be a whole number")


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int16(3), fractions.Fraction(1, 2), 1e308, 5e-324])
def test_numbers(value):
    found = _check.number("Where", "rate", value)
    assert found == float(value)
    assert type(found) is float


@pytest.mark.parametrize("value", ["0.5", None, True, np.False_, 1j, [0.5], np.array([0.5]), decimal.Decimal("0.5")])
def test_what_is_no_number(value):
    text = raised(TypeError, _check.number, "rate", value, 0, 1)
    assert text == f"Where: rate must be a number in [0, 1]; got {value!r} ({type(value).__name__})"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, -(10**400)])
def test_numbers_that_are_not_finite_are_in_no_range(value):
    assert raised(ValueError, _check.number, "rate", value).startswith("Where: rate must be a number; got ")
    raised(ValueError, _check.number, "rate", value, 0)
    raised(ValueError, _check.number, "rate", value, None, 1)


@pytest.mark.parametrize(("options", "inside", "outside", "text"), [
    ({"low": 0}, [0, 1e300], [-1e-300, -1], ">= 0"),
    ({"low": 0, "open_low": True}, [1e-300], [0, -0.0, -1], "> 0"),
    ({"high": 2}, [2, -1e300], [2.0000001], "<= 2"),
    ({"high": 2, "open_high": True}, [1.9999], [2], "< 2"),
    ({"low": 0, "high": 1}, [0, 0.5, 1], [-0.1, 1.1], "in [0, 1]"),
    ({"low": 0, "high": 1, "open_high": True}, [0, 0.999], [1], "in [0, 1)"),
    ({"low": 0, "high": 1, "open_low": True}, [1], [0], "in (0, 1]"),
])  # fmt: skip
def test_ranges(options, inside, outside, text):
    for value in inside:
        assert _check.number("Where", "rate", value, **options) == value
    for value in outside:
        assert (
            raised(ValueError, _check.number, "rate", value, **options)
            == f"Where: rate must be a number {text}; got {value}"
        )


def test_booleans():
    for value in (True, np.True_, False):
        assert _check.boolean("Where", "flag", value) is bool(value)
    for value in (1, 0, "True", None, np.ones(1)):
        text = raised(TypeError, _check.boolean, "flag", value)
        assert text == f"Where: flag must be True or False; got {value!r} ({type(value).__name__})"


# ---- words ----


def test_choices():
    options = ("valid", "same")
    assert _check.choice("Where", "padding", "same", options) == "same"
    text = raised(ValueError, _check.choice, "padding", "smae", options)
    assert text == "Where: padding must be one of 'valid', 'same'; got 'smae'. Did you mean 'same'?"
    text = raised(ValueError, _check.choice, "padding", "xyz", options)
    assert text == "Where: padding must be one of 'valid', 'same'; got 'xyz'"
    for value in (1, None, ["same"], b"same"):
        text = raised(TypeError, _check.choice, "padding", value, options)
        assert text == f"Where: padding must be one of 'valid', 'same'; got {value!r}"


def test_keywords():
    def function(self, filters, strides=1, padding=2):
        pass

    _check.keywords("Conv2D", function, {"strides": 1, "padding": 2})
    _check.keywords("Conv2D", lambda **more: None, {"anything": 1})
    for wrong, meant in (("stride", "strides"), ("pad", "padding"), ("filter", "filters")):
        with pytest.raises(TypeError) as caught:
            _check.keywords("Conv2D", function, {"padding": 1, wrong: 1})
        want = f"Conv2D: the keywords are filters, strides, padding; got `{wrong}`. Did you mean `{meant}`?"
        assert str(caught.value) == want
    with pytest.raises(TypeError, match=r"got `zzz`$"):
        _check.keywords("Conv2D", function, {"zzz": 1})


# ---- dtypes, shapes, arrays ----


def test_dtypes():
    for given in ("float32", np.float32, np.dtype("float32"), "f4", "single"):
        assert _check.float_dtype("Where", given) == np.float32
    for given in ("float64", float, "d"):
        assert _check.float_dtype("Where", given) == np.float64
    for given in (None, "float16", "int32", "half", "flaot32", 3, complex, ">f4", "longdouble", [("a", "f4")]):
        text = raised(ValueError, _check.float_dtype, given)
        assert text == f"Where: dtype must be 'float32' or 'float64'; got {given!r}"


def test_shapes_of_samples():
    for given, want in (
        ((8, 8, 1), (8, 8, 1)), ([8, 8], (8, 8)), ((None, 8, 1), (8, 1)), ((np.int64(3),), (3,)), (5, (5,)), ((), ()),
        ((None,), ()),
    ):  # fmt: skip
        found = _check.sample_shape("Where", given)
        assert found == want
        assert all(type(axis) is int for axis in found)
    for given in ((0,), (3, -1)):
        text = raised(ValueError, _check.sample_shape, given)
        assert text == f"Where: every axis of input_shape must be a whole number >= 1; got {given[-1]}"
    for given in ((2.5,), ("a",), (None, None), (True,)):
        assert raised(TypeError, _check.sample_shape, given).startswith(
            "Where: every axis of input_shape must be a whole "
        )
    for given in ("ab", None, 2.5, True, {3}):
        text = raised(TypeError, _check.sample_shape, given)
        assert text.startswith("Where: input_shape must be a tuple of whole numbers, without the batch axis; got ")


def test_arrays_of_numbers_pass_without_a_copy():
    for dtype in ("?", "u1", "i8", "f2", "f4", "f8", "g", ">f4"):
        array = np.ones((2, 3), dtype)
        assert _check.numeric_array("Where", "x", array) is array
    assert _check.numeric_array("Where", "x", [[1, 2], [3, 4]]).shape == (2, 2)
    assert _check.numeric_array("Where", "x", 3.5).shape == ()
    whole = np.ma.masked_array([1.0, 2.0], mask=[False, False])
    assert _check.numeric_array("Where", "x", whole).tolist() == [1, 2]


@pytest.mark.parametrize(("value", "shown"), [
    (["a", "b"], "list with dtype <U1"), (np.array([1, None]), "ndarray with dtype object"),
    (np.array([1j]), "ndarray with dtype complex128"), (None, "NoneType with dtype object"),
    (np.array(["2020"], "M8[D]"), "ndarray with dtype datetime64[D]"), ({1, 2}, "set with dtype object"),
    (np.zeros(2, [("a", "f4")]), "ndarray with dtype [('a', '<f4')]"), ([2**80], "list with dtype object"),
    (b"abc", "bytes with dtype |S3"), ([fractions.Fraction(1, 2)], "list with dtype object"),
])  # fmt: skip
def test_arrays_of_anything_else_are_refused(value, shown):
    text = raised(TypeError, _check.numeric_array, "x", value)
    assert text == f"Where: x must be an array of numbers (bool, integer or float); got {shown}"


def test_masked_and_ragged_arrays_are_refused():
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    text = raised(TypeError, _check.numeric_array, "x", masked)
    assert text == "Where: x must have no masked entries; got a masked array. Fill it first"
    text = raised(ValueError, _check.numeric_array, "x", [[1.0], [1.0, 2.0]])
    assert text.startswith("Where: x must be a rectangular array of numbers; got a ragged one (")
