"""How figures look: colours, panels, bands over seeds, labels at the ends of lines."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; its yellow is too pale for lines on white.
COLOURS = {
    "Standard OPD": "#0072B2",
    "VA-OPD": "#D55E00",
    "VA-OPD, distribution score": "#CC79A7",
    "VA-OPD, rollout weights only": "#E69F00",
    "VA-OPD, token groups only": "#009E73",
    "Base": "#7F7F7F",
    "Off-policy KD": "#E69F00",
    "CoT-SFT": "#8C6D31",
    "GRPO": "#56B4E9",
    "PAPO": "#009E73",
    "random 10% masked": "#595959",
    "lowest-VA 10% masked": "#009E73",
    "highest-VA 10% masked": "#D55E00",
}
OTHERS = ("#000000", "#CC79A7", "#56B4E9", "#009E73", "#E69F00", "#8C6D31")
MARKERS = "osD^vPX*"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "verl_vaopd",
}


def styles(labels: list[str]) -> dict[str, dict]:
    """Colour and marker of each label; a known label has the same colour in every report."""
    others = iter(OTHERS * len(labels))
    colours = {label: COLOURS.get(label) or next(others) for label in labels}
    return {label: {"color": colours[label], "marker": MARKERS[i % len(MARKERS)]} for i, label in enumerate(labels)}


def panels(count: int, narrow: bool, width: float = 4.8, height: float = 3.2, columns: int | None = None):
    """A figure and its panels: beside each other, ``columns`` in a row, or one above the other where ``narrow`` (for a
    phone)."""
    columns = 1 if narrow else columns or count
    width = min(width, 4.8) if narrow else width
    figure = Figure(figsize=(width * columns, height * count / columns), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(count // columns, columns, squeeze=False).flatten())


def line_with_band(axis, x, values, style: dict) -> None:
    """The mean over seeds with its markers, and from the lowest to the highest seed as a band. values: [seeds, X]."""
    axis.plot(x, values.mean(axis=0), markersize=4, markeredgecolor="white", markeredgewidth=0.6, **style)
    if len(values) > 1:
        axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, linewidth=0)


def label_ends(axis, ends: list[tuple[float, float, str, str]], gap: float = 0.075) -> None:
    """Texts to the right of the panel at the heights of their lines' ends (x, y, text, colour), pushed apart.

    To be called when the limits of the axes are final. ``gap``: least distance, share of the panel's height.
    """
    if not ends:
        return
    low, high = axis.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    wanted = np.array([(end[1] - low) / (high - low) for end in ends])
    places = wanted.copy()
    for _ in range(100):
        for i in range(len(places) - 1):
            overlap = gap - (places[i + 1] - places[i])
            if overlap > 0:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
    places += max(0.0, 0.02 - places.min()) - max(0.0, places.max() - 1.0)
    for (x, y, text, colour), place in zip(ends, places, strict=True):
        axis.annotate(
            text,
            xy=(x, y),
            xytext=(1.04, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.4, "shrinkB": 3, "shrinkA": 1},
            annotation_clip=False,
        )


def signed(value: float) -> str:
    """With one decimal and a sign, a typographic minus."""
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def per_cent(axis, which: str = "y") -> None:
    """Show a share as per cent."""
    getattr(axis, f"{which}axis").set_major_formatter(lambda value, _: f"{100 * value:g}%")
