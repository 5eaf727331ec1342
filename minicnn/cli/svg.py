"""Pictures for a page: one ``<svg>`` for white paper and for black, between which the page's CSS chooses.

The picture is drawn in both themes of ``plot``.  Both drawings have the same parts; where a colour differs it becomes a
variable, where an image differs there are both.  What is written is made here, element by element, and all texts and
attributes are escaped.
"""

import io
import re
import warnings
from html import escape
from xml.etree import ElementTree

from minicnn import plot

SETTINGS = {"svg.hashsalt": "minicnn", "svg.fonttype": "none"}  # of matplotlib: the same bytes every time, text as text
ELEMENTS = {"clipPath", "defs", "g", "image", "path", "pattern", "rect", "text", "tspan", "use"}
HREF = "{http://www.w3.org/1999/xlink}href"
LONG = re.compile(r"-?\d+\.\d{3,}(?!\d*e)")


class Sheet:
    """What the pictures of one page have in common: ``colours``, {variable: (on white, on black)}."""

    def __init__(self):
        self.colours, self._ids = {}, 0

    def picture(self, draw, title, least=10.0):
        """The figure that ``draw()`` makes, as an SVG element called ``title``, whose text is at least 8 pixels high
        where the smallest is ``least`` points: narrow pages scroll."""
        light, dark = (_drawn(draw, theme) for theme in ("light", "dark"))
        wide = float(light.get("viewBox").split()[2])
        used = {match for one in light.iter() for pair in one.attrib.items() for match in _references(*pair)}
        ids = {old: f"s{self._ids + number}" for number, old in enumerate(sorted(used))}
        self._ids += len(ids) + 1
        name = f"s{self._ids - 1}"
        parts = zip(light, dark, strict=True)
        inside = "".join(self._markup(*pair, ids) for pair in parts)
        limits = f"min-width:{8 / least * wide:.0f}px;max-width:{1.35 * wide:.0f}px"
        box = f'viewBox="{escape(light.get("viewBox"))}" style="{limits}"'
        return (
            f'<svg role="img" aria-labelledby="{name}" {box}><title id="{name}">{escape(title)}</title>{inside}</svg>'
        )

    def _markup(self, light, dark, ids):
        tag = light.tag.rpartition("}")[2]
        if tag not in ELEMENTS:  # metadata, a style sheet, which is in the page's
            return ""
        inside = escape(light.text or "") if tag in ("text", "tspan") else ""
        inside += "".join(self._markup(*pair, ids) for pair in zip(light, dark, strict=True))
        if tag in ("g", "defs") and not inside:
            return ""
        said = self._attributes(light, dark, ids)
        if tag != "image" or light.get(HREF) == dark.get(HREF):
            return f"<{tag}{said}>{inside}</{tag}>"
        light.set(HREF, dark.get(HREF))
        return f'<image class="light"{said}/><image class="dark"{self._attributes(light, dark, ids)}/>'

    def _attributes(self, element, other, ids):
        style = self._style(*map(_declarations, (element, other)))
        found = f' style="{escape(_renamed("style", style, ids))}"' if style else ""
        for name, value in element.attrib.items():
            if name in ("fill", "style") or (name == "id" and value not in ids):
                continue
            if name in ("d", "x", "y"):
                value = LONG.sub(_shorter, " ".join(value.split()))
            elif name == HREF:
                value = "".join(value.split())
            found += f' {"href" if name == HREF else name}="{escape(_renamed(name, value, ids))}"'
        return found

    def _style(self, light, dark):
        found = []
        for name in {**light, **dark}:
            one, other = (style.get(name, "#000000") for style in (light, dark))  # matplotlib leaves out black
            if one != other and "url(" not in one:
                variable = f"--{re.sub('[^a-z0-9]', '', one + other)}"
                self.colours[variable] = one, other
                one = f"var({variable})"
            found.append(f"{name}:{one}")
        return ";".join(found)


def _drawn(draw, theme):
    """The root of the drawing."""
    import matplotlib

    text = io.StringIO()
    with plot.theme(theme), matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font has not: the browser has others
        draw().savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=144)
    return ElementTree.fromstring(text.getvalue())


def _declarations(element):
    """{name: value} of its style; the fonts are the page's."""
    pairs = (one.partition(":")[::2] for one in element.get("style", "").split(";") if one.strip())
    found = {name.strip(): value.strip() for name, value in pairs if name.strip() != "font-family"}
    return {"fill": element.get("fill"), **found} if "fill" in element.attrib else found


def _references(name, value):
    """The ids that an attribute names."""
    return re.findall(r"^#(\w+)$" if name == HREF else r"url\(#(\w+)\)", value)


def _renamed(name, value, ids):
    for old in [value] if name == "id" else _references(name, value):
        value = value.replace(old, ids[old])
    return value


def _shorter(match):
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
