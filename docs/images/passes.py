"""Draws the passes of an ImbSAM step for docs/what_imbsam_is.md: ``python docs/images/passes.py`` writes the SVG."""

from pathlib import Path

FILE = Path(__file__).with_suffix(".svg")
HEAD, TAIL = 10, 2
WIDTH, HEIGHT = 500, 560
SIDE, GAP = 22, 5
STYLE = """
  .card { fill: #ffffff; stroke: #d0d4da; }
  .box { fill: #f3f5f7; stroke: #d0d4da; }
  text { fill: #20242a; font: 15px system-ui, sans-serif; }
  .small { font-size: 13.5px; }
  .bold { font-weight: 600; }
  .head { fill: #7d93b5; }
  .tail { fill: #e0752d; }
  .unused { fill: none; stroke: #aab2bf; stroke-dasharray: 3 3; }
  .line { fill: none; stroke: #5d6672; stroke-width: 1.6; }
  .tip { fill: #5d6672; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #1e2129; stroke: #3c424e; }
    .box { fill: #292d38; stroke: #3c424e; }
    text { fill: #e4e7ec; }
    .head { fill: #7f9acb; }
    .tail { fill: #ee8a45; }
    .unused { stroke: #667085; }
    .line { stroke: #aab2bf; }
    .tip { fill: #aab2bf; }
  }
"""
PASSES = (
    ("1", "tail rows at w", "their gradient gives e = rho * g / |g|", False, True),
    ("2", "tail rows at w + e", "their gradient there goes into the sum", False, True),
    ("3", "head rows at w", "their gradient goes into the sum", True, False),
)


def text(x: float, y: float, words: str, kind: str = "small") -> str:
    """A line of words."""
    return f'<text class="{kind}" x="{x}" y="{y}">{words}</text>'


def rows(x: float, y: float, *, head: bool = True, tail: bool = True) -> str:
    """The rows of a batch; those that a pass leaves out are dashed."""
    kinds = ["head" if head else "unused"] * HEAD + ["tail" if tail else "unused"] * TAIL
    return "".join(
        f'<rect class="{kind}" x="{x + number * (SIDE + GAP)}" y="{y}" width="{SIDE}" height="{SIDE}" rx="3"/>'
        for number, kind in enumerate(kinds)
    )


def arrow(x: float, top: float, bottom: float) -> str:
    """An arrow that points down."""
    tip = f'<path class="tip" d="M{x - 5} {bottom - 8} L{x + 5} {bottom - 8} L{x} {bottom} Z"/>'
    return f'<path class="line" d="M{x} {top} V{bottom - 8}"/>{tip}'


def box(y: float, height: float) -> str:
    """A box over the width of the drawing."""
    return f'<rect class="box" x="20" y="{y}" width="{WIDTH - 40}" height="{height}" rx="8"/>'


def drawn() -> str:
    """The drawing as SVG."""
    total = HEAD + TAIL
    parts = [
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="12"/>',
        text(20, 34, f"A batch of {total} rows: {HEAD} of the head, {TAIL} of the tail", "bold"),
        rows(20, 48),
        arrow(WIDTH / 2, 78, 100),
    ]
    for place, (number, title, what, head, tail) in enumerate(PASSES):
        top = 100 + place * 116
        parts += [
            box(top, 94),
            text(36, top + 26, f"Pass {number}: {title}", "bold"),
            rows(36, top + 37, head=head, tail=tail),
            text(36, top + 81, what),
            arrow(WIDTH / 2, top + 94, top + 116),
        ]
    passed = HEAD + 2 * TAIL
    parts += [
        box(448, 92),
        text(36, 475, "The weights are w again, bit for bit", "bold"),
        text(36, 499, ".grad holds the sum; the base optimizer makes its step"),
        text(36, 523, f"Rows forwarded: {passed} (SAM: {2 * total}, SGD: {total})"),
    ]
    label = f"A step of ImbSAM: tail rows pass at w and at w + e, head rows at w alone; {passed} rows for {total}"
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{label}">\n<style>{STYLE}</style>\n{inside}\n</svg>\n'
    )


if __name__ == "__main__":
    FILE.write_text(drawn(), encoding="utf-8")
