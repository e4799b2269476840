"""The study of dilution: what a run of ``recipes/dilution_study.sh`` left, as figures and a table.

A gain is the fall of the held-out negative log-likelihood of a visual token (teacher-forced, nats) over a run. What an
arm does not have, as one that learns from rewards has no KL, is left out of its row and of the figures.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from verl_vaopd.diagnostics.drawing import panels, per_cent
from verl_vaopd.diagnostics.runs import MissingRuns
from verl_vaopd.diagnostics.statistics import interval, paired

BASELINE, ORACLE = "Standard OPD", "oracle"
HEAD = (
    "trained, rate, words",
    "run",
    "seeds",
    "gain, nats (95%)",
    "less Standard OPD's, nats (95%)",
    "accuracy, %",
    "of the weighted KL on visual tokens",
    "visual in the high group",
    "misread digits: of the visual KL; in the high group",
    "tokens in the high group",
    "KL of another token, nats, first to last",
)
TRAINED = {"frozen": "vision frozen", "all": "all trained", "lora": "adapters of rank 8"}
COLOURS = "#0072B2 #000000 #D55E00 #CC79A7 #E69F00 #009E73 #882255".split()
COLOURS += "#56B4E9 #8C6D31 #595959 #44AA99 #999933 #117733 #AA4499".split()


@dataclass
class StudyRun:
    """One run: what it says of itself, and its updates as records.

    tried: rate -> gain, where its rate was chosen as its arm's own; own: it stands for that rate, whichever it is.
    """

    path: Path
    settings: dict
    records: list[dict]
    tried: dict[float, float] = field(default_factory=dict)
    own: bool = False

    @property
    def setting(self) -> tuple[str, float | str]:
        return self.settings["cell"]["regime"], "own" if self.own else self.settings["cell"]["rate"]

    @property
    def label(self) -> str:
        return f"{self.title}, rate {self.settings['cell']['rate']:g}" if self.own else self.title

    @property
    def words(self) -> int:
        return self.settings["cell"]["words"]

    @property
    def usual(self) -> bool:
        """Whether it began with the student that the others began with, and sees what they see."""
        return self.settings.get("student", "student") == "student"  # runs of earlier versions do not say: all were

    @property
    def title(self) -> str:
        return self.settings["title"]

    @property
    def gain(self) -> float:
        nll = self.column("nll")
        return nll[0] - nll[-1]

    def column(self, name: str) -> list[float]:
        """Of the records that have it, in order."""
        return [record[name] for record in self.records if name in record]

    def kl_of_others(self) -> tuple[float, float]:
        """Of a token that is not visual, nats: in the first three updates, and in the last three; NaN without a KL."""
        names = ("kl_sum", "kl_visual_sum", "tokens", "visual_tokens")
        if not self.column("kl_sum"):
            return float("nan"), float("nan")
        sums = np.array([self.column(name) for name in names])
        each = [sums[:, :3].sum(1), sums[:, -3:].sum(1)]
        return tuple(float((kl - visual) / (tokens - digits)) for kl, visual, tokens, digits in each)

    def share(self, part: str, whole: str) -> float:
        """Of two sums, over all updates; NaN where one is not in the log, or nothing is the whole."""
        parts, total = self.column(part), sum(self.column(whole))
        return sum(parts) / total if parts and total else float("nan")


def with_own_rates(runs: list[StudyRun]) -> list[StudyRun]:
    """The runs; those whose rate was chosen stand in a setting of its own, and in their cell only if others do, too."""
    named = {(run.setting, run.words) for run in runs if not run.tried}
    of_cells = [run for run in runs if (run.setting, run.words) in named]
    return of_cells + [replace(run, own=True) for run in runs if run.tried]


def check_together(runs: list[StudyRun]) -> None:
    """Raises:
    ValueError: two runs of one arm, cell and seed, or runs that differ in more than these.
    """
    first, told, seen = runs[0], None, {}
    for run in runs:
        for name in ("figures", "updates", "prompts", "rollouts"):
            one, other = first.settings[name], run.settings[name]
            if one != other:
                raise ValueError(f"{first.path} and {run.path} differ in {name}, {one} and {other}: report them apart")
        told = run if "models" in run.settings and told is None else told  # runs of earlier versions do not say
        if "models" in run.settings and run.settings["models"] != told.settings["models"]:
            raise ValueError(f"{told.path} and {run.path} are of different models: report them apart")
        seed = run.settings["seed"]
        other = seen.setdefault((run.setting, run.words, run.title, seed), run)
        if other is not run:
            what = f"{run.title!r} of {named(run.setting)}, {run.words} words, seed {seed}"
            raise ValueError(f"{other.path} and {run.path} are both {what}: name one of them")


class Gain:
    """Gain against the number of words, by arm; a row for what is trained and how far."""

    TITLE, NAME = "Gain on visual tokens against the words around them", "dilution_gain"

    @staticmethod
    def draw(runs: list[StudyRun], narrow: bool = False):
        settings = sorted({run.setting for run in runs}, key=str)
        figure, axes = panels(2 * len(settings), narrow, width=5.2, height=3.4, columns=2)
        titles, colours = titles_of(runs)
        for setting, left, right in zip(settings, axes[::2], axes[1::2], strict=True):
            own = [run for run in runs if run.setting == setting]
            lengths = sorted({run.words for run in own})
            for place, title in enumerate(titles):
                style = {"color": colours[title], "marker": "o", "markersize": 4}
                shift = 0.08 * (place - (len(titles) - 1) / 2)
                gains = {words: gains_of(own, title, words) for words in lengths}
                at = {words: lengths.index(words) + shift for words in lengths if gains[words]}
                means = [np.mean([*gains[words].values()]) for words in at]
                left.plot([*at.values()], means, label=title, linewidth=1, **style)
                for words, x in at.items():
                    left.plot([x] * len(gains[words]), [*gains[words].values()], ".", color=colours[title], alpha=0.4)
                    more = less_baseline(own, title, words)
                    if more:
                        mean, _, half = interval(more)
                        right.errorbar(x, mean, yerr=half, capsize=2, **style)
            for axis in (left, right):
                axis.set_xticks(range(len(lengths)), [str(words) for words in lengths])
                axis.set(xlabel="words around the reading", xlim=(-0.5, len(lengths) - 0.5))
            left.set(title=named(setting), ylabel="gain, nats a visual token")
            right.axhline(0, color="black", linewidth=0.9)
            right.set(title="less Standard OPD's, paired", ylabel="nats")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, fontsize=7, loc="outside lower center", ncols=1 if narrow else 4)
        return figure


class Shares:
    """How much of the loss and of its gradient comes from visual tokens, where most words are."""

    TITLE, NAME = "Share of visual tokens in the loss and in its gradient", "dilution_shares"

    @staticmethod
    def draw(runs: list[StudyRun], narrow: bool = False):
        (titles, colours), most = titles_of(runs), max(run.words for run in runs)
        runs = [run for run in runs if run.words == most]
        if not any(name.startswith("norm/") for run in runs for record in run.records for name in record):
            raise MissingRuns("runs of seed 1, whose gradients are told apart")
        settings = sorted({run.setting for run in runs}, key=str)
        figure, axes = panels(2 * len(settings), narrow, width=5.2, height=3.6, columns=2)
        for setting, left, right in zip(settings, axes[::2], axes[1::2], strict=True):
            own = [run for run in runs if run.setting == setting]
            here = [title for title in titles if any(run.title == title for run in own)]
            for title in here:
                curves = [curve for run in own if run.title == title and (curve := _shares(run))]
                if curves:
                    left.plot(range(1, len(curves[0]) + 1), np.mean(curves, 0), color=colours[title], label=title)
            left.set(
                title=f"{named(setting)}, {most} words", xlabel="update", ylabel="of the weighted KL on visual tokens"
            )
            for place, (part, colour) in enumerate((("vision", "#E69F00"), ("language", "#0072B2"))):
                shares = [_norm_share([run for run in own if run.title == title], part) for title in here]
                rows_at = [row + (0.2 - 0.4 * place) for row in range(len(here))]
                right.barh(
                    rows_at, shares, 0.38, color=colour, label={"vision": "vision tower"}.get(part, "language model")
                )
            right.set_yticks(range(len(here)), here, fontsize=7)
            right.set(title="of the gradient's norm", xlabel="visual / (visual + others), seed 1")
            per_cent(left)
            per_cent(right, "x")
            right.legend(fontsize=7)
        handles = {
            name: handle for axis in axes[::2] for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, fontsize=7, loc="outside lower center", ncols=1 if narrow else 4)
        return figure


def _norm_share(runs: list[StudyRun], part: str) -> float:
    """Mean over the updates at which gradients were told apart; NaN where the part is not trained."""
    pairs = [
        [record.get(f"norm/{part}/{of}", np.nan) for of in ("visual", "others")]
        for run in runs
        for record in run.records
    ]
    shares = [visual / (visual + others) for visual, others in pairs if visual + others > 0]
    return float(np.mean(shares)) if shares else float("nan")


def _shares(run: StudyRun) -> list[float]:
    return [part / whole for part, whole in zip(run.column("weighted_visual"), run.column("weighted"), strict=True)]


def gains_of(runs: list[StudyRun], title: str, words: int) -> dict[int, float]:
    """Seed -> gain."""
    return {run.settings["seed"]: run.gain for run in runs if (run.title, run.words) == (title, words)}


def less_baseline(runs: list[StudyRun], title: str, words: int) -> list[float]:
    """Gains less Standard OPD's of the same seeds; nothing of itself, or of another model on other figures."""
    if title == BASELINE or not all(run.usual for run in runs if run.title == title):
        return []
    return paired(gains_of(runs, title, words), gains_of(runs, BASELINE, words))


def titles_of(runs: list[StudyRun]) -> tuple[list[str], dict[str, str]]:
    """Arms, Standard OPD and the oracle first, and their colours."""
    titles = sorted({run.title for run in runs}, key=lambda title: (title != BASELINE, title != ORACLE, title))
    return titles, {title: COLOURS[place % len(COLOURS)] for place, title in enumerate(titles)}


def named(setting: tuple[str, float | str]) -> str:
    regime, rate = setting
    return f"{TRAINED[regime]}, own rates" if rate == "own" else f"{TRAINED[regime]}, rate {rate:g}"


def rows(runs: list[StudyRun]) -> list[tuple[str, ...]]:
    """Under ``HEAD``, a row for each arm of each cell."""
    table = []
    for setting, words in sorted({(run.setting, run.words) for run in runs}, key=str):
        own = [run for run in runs if (run.setting, run.words) == (setting, words)]
        gains = {title: gains_of(own, title, words) for title in titles_of(own)[0]}
        for title, by_seed in gains.items():
            of_title = [run for run in own if run.title == title]
            more = less_baseline(own, title, words)
            table.append(
                (
                    f"{named(setting)}, {words}",
                    ", ".join(dict.fromkeys(run.label for run in of_title)),
                    str(len(of_title)),
                    spread(list(by_seed.values()), "{:.3f}"),
                    spread(more, "{:+.3f}") if more else "",
                    f"{100 * np.mean([run.column('accuracy')[-1] for run in of_title]):.1f}",
                    mean("{:.0%}", [run.share("weighted_visual", "weighted") for run in of_title]),
                    mean("{:.0%}", [run.share("high_visual", "visual_tokens") for run in of_title]),
                    "; ".join(
                        mean("{:.0%}", [run.share(*parts) for run in of_title]) or "-"
                        for parts in (("kl_misread_sum", "kl_visual_sum"), ("high_misread", "misread_tokens"))
                    ).replace("-; -", ""),
                    mean("{:.1%}", [run.share("high_tokens", "tokens") for run in of_title]),
                    mean("{:.2f} to {:.2f}", [run.kl_of_others() for run in of_title]),
                )
            )
    return table


def mean(form: str, values: list) -> str:
    """Over runs, of a number or several; empty where they do not have it."""
    means = np.atleast_1d(np.mean(values, axis=0))
    return "" if np.isnan(means).any() else form.format(*means)


def spread(values: list[float], form: str) -> str:
    """Mean and 95% interval."""
    middle, _, half = interval(values)
    limits = "" if half is None else f" ({form.format(middle - half)} to {form.format(middle + half)})"
    return form.format(middle) + limits
