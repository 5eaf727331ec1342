"""Pictures for a page: colours of both themes, texts that stay texts, names that are nobody else's."""

import re
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from matplotlib import rcParams
from matplotlib.figure import Figure

from minicnn import plot, plot_axes
from minicnn.cli.svg import Sheet

NAME = '<script>"$\\frac{x$" & שלום 日本</script>'


def figure():
    """A line with markers, an image, a hatch, a text: with a colour of the theme, and a fixed one."""
    made = Figure(figsize=(3, 2), layout="constrained")
    panel, shaded = made.subplots(1, 2)
    panel.plot([0, 1], [0, 1], "o-", color=plot_axes.ink(panel, 0.5))
    panel.bar([0], [1], hatch="//", color="#d55e00")
    shaded.imshow([[0, 1]], cmap=plot_axes.shades(shaded))
    panel.set_title(plot_axes.named(NAME))
    return made


@pytest.fixture(scope="module")
def drawn():
    sheet = Sheet()
    return sheet, [sheet.picture(figure, "A <title>"), sheet.picture(figure, "another", least=5)]


def test_it_is_well_formed_and_nothing_in_it_is_code(drawn):
    for picture in drawn[1]:
        root = ElementTree.fromstring(picture)
        texts = ["".join(element.itertext()) for element in root.iter("text")]
        assert NAME in texts
        assert "script" not in {element.tag for element in root.iter()}
        assert "font-family" not in picture
        for element in root.iter():
            assert not [name for name in element.attrib if name.startswith("on")]
            assert element.get("href", "#").startswith(("#", "data:image/png;base64,"))


def test_it_has_a_title(drawn):
    root = ElementTree.fromstring(drawn[1][0])
    (title,) = root.findall("title")
    assert (title.text, root.get("role")) == ("A <title>", "img")
    assert root.get("aria-labelledby") == title.get("id")


def test_ids_are_unique_and_found(drawn):
    both = "".join(drawn[1])
    ids = re.findall(r' id="([^"]*)"', both)
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#(\w+)\)|href="#(\w+)"|aria-labelledby="(\w+)"', both)
    assert {name for names in used for name in names if name} == set(ids)


def test_colours_that_differ_are_variables_and_images_are_there_twice(drawn):
    sheet, (picture, _) = drawn
    with plot.theme("light"):
        paper, ink = (rcParams[name] for name in ("figure.facecolor", "text.color"))
    with plot.theme("dark"):
        pair = paper, rcParams["figure.facecolor"]
    assert pair in sheet.colours.values()
    assert ink not in picture
    assert "#d55e00" in picture
    assert set(re.findall(r"var\((--\w+)\)", picture)) == set(sheet.colours)
    root = ElementTree.fromstring(picture)
    images = [(image.get("class"), image.get("href")) for image in root.iter("image")]
    assert [name for name, _ in images] == ["light", "dark"]
    assert images[0][1] != images[1][1]


def test_the_same_picture_is_the_same_text(drawn):
    assert Sheet().picture(figure, "A <title>") == drawn[1][0]


def test_how_narrow_it_gets(drawn):
    wide, small = (re.search(r"min-width:(\d+)px;max-width:(\d+)px", picture).groups() for picture in drawn[1])
    assert wide == (f"{0.8 * 216:.0f}", f"{1.35 * 216:.0f}")
    assert small[0] == f"{1.6 * 216:.0f}"
