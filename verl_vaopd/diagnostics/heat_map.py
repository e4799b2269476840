"""Fig. 6 of the paper: one held-out problem as several students answer it, every token coloured by its VA."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from verl_vaopd.diagnostics.runs import Group, MissingRuns, Run

TITLE = "Token by token"
NAME = "heat_map"
RGB = (230, 97, 0)  # of the highest VA; black text is readable on it
SHOWN = 6  # problems
LINES = 12  # of an answer in the still figure; the page holds all of it


@dataclass
class Reading:
    """What one student said: tokens and their VA, nats, by the teacher."""

    label: str
    tokens: list[str]
    va: list[float]
    is_right: bool


@dataclass
class Problem:
    """A held-out problem and its readings, in the order of the checkpoints."""

    question: str
    image: Path
    readings: list[Reading]

    @property
    def highest(self) -> float:
        """Full colour: the highest VA of all readings, nats."""
        return max(max(reading.va) for reading in self.readings)


def problems(groups: list[Group]) -> list[Problem]:
    """The problems that tell most: first wrong and in the end right, then by rise in VA.

    Raises:
        MissingRuns: no problem with an image was logged at two checkpoints or more.
    """
    students = checkpoints(groups)
    logged = []
    for label, run, step in students:
        rows = {row["id"]: (run, row) for row in reversed(run.rollouts(step)) if row["image"]}  # the first of several
        logged += [(label, rows)] if rows else []
    common = set.intersection(*(set(rows) for _, rows in logged)) if len(logged) > 1 else set()
    if not common:
        raise MissingRuns(
            "a run with the teacher's two views (vaopd.degraded_view=true) on problems with images, validated more "
            "than once, with vaopd.log_validation_rollouts above 0"
        )
    found = []
    for name in sorted(common, key=str):
        run, row = logged[-1][1][name]
        rows = [(label, rows[name][1]) for label, rows in logged]
        readings = [Reading(label, each["tokens"], each["va"], each["accuracy"] > 0.5) for label, each in rows]
        found.append(Problem(words(row["question"]), run.path / row["image"], readings))
    return sorted(found, key=_telling, reverse=True)[:SHOWN]


def checkpoints(groups: list[Group]) -> list[tuple[str, Run, int]]:
    """(label, run, step): the student before training and at the end of each method's first seed; with one method, two
    steps on the way as well."""
    trained = [group for group in groups if group.kind == "method" and group.runs[0].last_step > 0] or groups
    first = trained[0].runs[0]
    students = [("before training", first, 0)] if first.columns["step"][0] == 0 else []
    if len(trained) == 1:
        steps = first.columns["step"][1:-1].tolist()
        between = sorted({steps[len(steps) // 3], steps[2 * len(steps) // 3]}) if steps else []
        students += [(f"{first.label}, step {int(step)}", first, int(step)) for step in between]
    runs = [group.runs[0] for group in trained]
    return students + [(f"{run.label}, step {run.last_step}", run, run.last_step) for run in runs if run.last_step > 0]


def _telling(problem: Problem) -> tuple:
    before, after = problem.readings[0], problem.readings[-1]
    return (not before.is_right) + after.is_right, max(after.va) - max(before.va)


def words(question: str) -> str:
    """The question without the chat's role names."""
    return question.strip().removeprefix("user").removesuffix("assistant").strip()


def draw(groups: list[Group], narrow: bool = False):
    """The first of :func:`problems`, as :func:`draw_problem` draws it."""
    return draw_problem(problems(groups)[0], narrow)


def draw_problem(problem: Problem, narrow: bool = False) -> Figure:
    """A problem's image, and under each reading's label the tokens on their colours.

    Of a long answer the twelve lines with the most VA are shown.
    """
    columns, size = 56, 8.5  # characters a line, points
    advance, leading = 0.602 * size, 1.55 * size
    lines = [(reading, _densest(_wrap(reading, columns))) for reading in problem.readings]
    height = sum(len(wrapped) + 1.9 for _, wrapped in lines) * leading + 34
    side = 150.0
    left = 12.0 if narrow else side + 24
    top = side + 12 if narrow else 0.0
    width, height = left + columns * advance + 12, max(height + top, side + 20)
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))  # one unit is a point, y from the top
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    with Image.open(problem.image) as image:
        shown = side / max(image.size)
        extent = (12, 12 + image.width * shown, 12 + image.height * shown, 12)
        axis.imshow(image.convert("RGB"), extent=extent, aspect="auto", interpolation="nearest")
        axis.add_patch(Rectangle((12, 12), extent[1] - 12, extent[2] - 12, fill=False, edgecolor="#BFBFBF"))
    axis.set(xlim=(0, width), ylim=(height, 0))
    y = top + 10.0
    letters = {"fontsize": size, "family": "DejaVu Sans Mono", "va": "top", "parse_math": False}
    for reading, wrapped in lines:
        said = "right" if reading.is_right else "wrong"
        axis.text(left, y + 0.8 * size, f"{reading.label}: {said}", fontsize=size, fontweight="bold", va="center")
        y += 1.3 * leading
        for line in wrapped:
            for start, text, va in line:
                colour = [1 - (1 - part / 255) * va / problem.highest for part in RGB] if problem.highest else "white"
                box = (left + start * advance, y)
                axis.add_patch(Rectangle(box, len(text) * advance, 0.94 * leading, facecolor=colour, linewidth=0))
                axis.text(box[0], y + 0.16 * leading, text, **letters)
            y += leading
        y += 0.6 * leading
    for step in range(64):
        colour = [1 - (1 - part / 255) * step / 63 for part in RGB]
        axis.add_patch(Rectangle((left + step * 1.6, height - 20), 1.7, 8, facecolor=colour, linewidth=0))
    axis.text(left + 108, height - 16, f"VA, 0 to {problem.highest:.1f} nats", fontsize=8, va="center")
    return figure


def _densest(lines: list) -> list:
    """The ``LINES`` lines in a row that hold the most VA, of an answer that is longer."""
    mass = [sum(va for _, _, va in line) for line in lines]
    starts = range(max(1, len(lines) - LINES + 1))
    first = max(starts, key=lambda start: sum(mass[start : start + LINES]))
    return lines[first : first + LINES]


def _wrap(reading: Reading, columns: int) -> list[list[tuple[int, str, float]]]:
    """Lines of (first column, text, VA): tokens in order, broken where a token no longer fits or has a line break."""
    lines, column = [[]], 0
    for token, va in zip(reading.tokens, reading.va, strict=True):
        text = token.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")[:columns]
        if column + len(text) > columns:
            lines.append([])
            column = 0
        lines[-1].append((column, text, va))
        column += len(text)
        if "\n" in token:
            lines.append([])
            column = 0
    return [line for line in lines if line]
