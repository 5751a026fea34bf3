"""Style of the figures, and their conversion to a PNG file or a part of the page."""

import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

Floats = npt.NDArray[np.float64]

FIGURE_WIDTH = 6.4  # inches

INK = "#1b1f24"
GRID = "#d4d9df"
PAPER = "#ffffff"
# In the page these follow its light or dark scheme; colours of data stay as they are.
_THEMED = {INK: "currentcolor", GRID: "var(--line)", PAPER: "none"}

# Okabe and Ito's colours for all kinds of colour vision; their black gives way to grey for the baseline, and
# their yellow, too faint on white, is left out.
COLOURS = ("#858585", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")

MAX_POINTED = 60
"""Largest number of points of a line that show their value; more could not be distinguished with a finger."""

# Used where installed, for class names that DejaVu Sans has no glyphs for.
_MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS", "Segoe UI Symbol")


@dataclass(frozen=True)
class Picture:
    """Figure with its texts.

    Args:
        name: Name of the PNG file, without its suffix.
        title: Title; unique in the report.
        alt: Description for a reader who does not see the figure.
        caption: Explanation of how to read it.
        figure: The drawing.
        tips: Texts of the marks when they are pointed at, by the ``gid`` of the artist that draws the marks, in the
            order in which it draws them.
        wide: Whether it needs both columns of the page.
        tall: Whether it needs the height of two others.
    """

    name: str
    title: str
    alt: str
    caption: str
    figure: Figure
    tips: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wide: bool = False
    tall: bool = False


@contextmanager
def drawing() -> Iterator[None]:
    """Set the report's figure style while drawing and rendering, independent of the user's matplotlibrc."""
    installed = set(font_manager.get_font_names())
    settings = {
        "font.family": ["DejaVu Sans", *(font for font in _MORE_FONTS if font in installed)],
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.facecolor": "none",
        "axes.labelcolor": INK,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "figure.facecolor": PAPER,
        "legend.frameon": False,
        "lines.linewidth": 2.0,
        "lines.markersize": 5.0,
        # A class name with dollar signs is no formula.
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "imbsam",
    }
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        # The page shows the text with the browser's fonts; in the PNG a box stands for the glyph.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def method_colour(index: int, methods: int) -> str:
    """Return the colour of the method with this number; colours repeat after seven, then with other dashes."""
    # Grey is for a baseline; a method that stands alone is none.
    return COLOURS[(index if methods > 1 else 1) % len(COLOURS)]


def marker(index: int) -> str:
    """Return the marker of the method with this number."""
    return MARKERS[index % len(MARKERS)]


def dashes(index: int) -> str:
    """Return the line style of the method with this number."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def add_legend(figure: Figure, axis: Axes, methods: int) -> None:
    """Name the lines of several methods below the figure."""
    if methods > 1:
        handles, labels = axis.get_legend_handles_labels()
        columns = max(1, 64 // (max(map(len, labels)) + 6))
        figure.legend(handles, labels, loc="outside lower center", ncols=min(methods, columns), fontsize=10)


def points_to_hover(
    axis: Axes, x: Floats, y: Floats, *, gid: str, colour: str, label: str, words: str
) -> dict[str, Sequence[str]]:
    """Put marks along a line that appear when they are pointed at.

    Args:
        axis: Axis of the line.
        x: Positions, shape ``(points,)``.
        y: Values, shape ``(points,)``, within the axis where finite; marks are put at some of the finite points.
        gid: Id of the marks, unique in the figure.
        colour: Colour of the line.
        label: Beginning of the text.
        words: Rest of the text, with a place for x and one for y.

    Returns:
        The texts, for :attr:`Picture.tips`.
    """
    finite = np.flatnonzero(np.isfinite(y))
    if not len(finite):
        return {}
    some = finite[np.unique(np.linspace(0, len(finite) - 1, MAX_POINTED).astype(int))]
    axis.plot(x[some], y[some], linestyle="none", marker="o", markersize=9, color=colour, alpha=0, gid=gid)
    return {gid: [f"{label}, {words.format(x[i], y[i])}" for i in some]}


def plain_log_ticks(axis: Axis) -> None:
    """Write 1, 2, 5, 10, 20, ... on a logarithmic axis."""
    # The formatter of matplotlib writes powers as formulas, which the report's style leaves unread.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def to_png(figure: Figure) -> bytes:
    """Render a figure for print: dark on white, 150 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def to_svg(picture: Picture) -> str:
    """Render a figure as an ``svg`` element for an HTML page.

    Texts stay texts, the colours of text and grid follow the page, and the ids are unique to the picture.

    Args:
        picture: Picture with a title that no other picture of the page has.

    Returns:
        Well-formed markup; every text in it is escaped.
    """
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    prefix = f"{picture.name}-"
    for element in root.iter():
        element.tag = _local(element.tag)
    _add_tips(root, picture)
    for element in root.iter():
        element.attrib = {_local(key): _placed(_local(key), value, prefix) for key, value in element.items()}
    root.set("role", "img")
    root.set("aria-label", picture.alt)
    # Of the page's width at most, and still readable on a phone, where the figure scrolls.
    root.set("style", f"width: {root.get('width', '100%')}")
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _add_tips(root: ET.Element, picture: Picture) -> None:
    groups = {element.get("id"): element for element in root.iter("g")}
    for gid, texts in picture.tips.items():
        defined = {id(mark) for definition in groups[gid].iter("defs") for mark in definition.iter()}
        drawn = [mark for mark in groups[gid].iter() if id(mark) not in defined]
        # Marks of one shape are uses of it; a line under them is a path.
        marks = [mark for mark in drawn if mark.tag == "use"] or [mark for mark in drawn if mark.tag == "path"]
        for mark, text in zip(marks, texts, strict=True):
            mark.set("data-tip", text)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _placed(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    if key == "data-tip":
        return value
    value = value.replace("url(#", f"url(#{prefix}")
    if key in {"style", "fill", "stroke"}:
        for drawn, shown in _THEMED.items():
            value = value.replace(drawn, shown)
    return value
