"""A run of the study: an arm (how tokens weigh), a cell (what is trained, how far, amid how many words), a seed."""

from dataclasses import asdict, dataclass, replace

from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.of_methods import MassConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.tiny.dilution.words import LENGTHS

VISUAL, OTHERS = 4, 34  # tokens of an answer: digits of the reading; what else there is without words
ROOM = 56  # tokens of an answer beside its words, with some to spare


@dataclass(frozen=True)
class Arm:
    """title: in tables and figures. settings: of section ``vaopd``; ``matched``: p_v is the share of visual tokens;
    ``student``: which of the tiny models learns; ``usual``: it is in a study that names no arms."""

    title: str
    settings: dict
    matched: bool = False
    student: str = "student"
    usual: bool = True

    def config(self, models: str, words: int) -> VAOPDConfig:
        """For a run amid so many words. models: folder of ``verl-vaopd tiny --task dilution``."""
        teacher = TeacherConfig(path=f"{models}/teacher", dtype="fp32", override_config={"attn_implementation": "sdpa"})
        config = VAOPDConfig(teacher=teacher, output_dir="study", **self.settings)
        return replace(config, high_fraction=VISUAL / (VISUAL + OTHERS + words)) if self.matched else config


MASS = {"method": "vaopd_mass"}
WHOLE = {"score": "distribution"}
ORACLE = {"method": "pkg://verl_vaopd.tiny.dilution.oracle:Oracle", "rollout_weighting": False}
SELF = {"method": "self", "degradation_ratio": 0.5}
ALIKE = {"rollout_weighting": False, "token_grouping": False}
ARMS = {
    "opd": Arm("Standard OPD", {"method": "opd"}),
    "oracle": Arm("oracle", ORACLE),
    "vaopd": Arm("VA-OPD", {}),
    "vaopd_distribution": Arm("VA-OPD, distribution score", WHOLE),
    "mass": Arm("VA-OPD by mass", MASS),
    "mass_distribution": Arm("VA-OPD by mass, distribution score", {**MASS, **WHOLE}),
    "mass_random": Arm("by mass, random tokens", {**MASS, **WHOLE, "mass": MassConfig(tokens="random")}),
    "mass_alike": Arm("by mass, distribution score, siblings alike", {**MASS, **WHOLE, "rollout_weighting": False}),
    "vaopd_matched": Arm("VA-OPD, p_v matched", {}, matched=True),
    "matched_distribution": Arm("VA-OPD, distribution score, p_v matched", WHOLE, matched=True),
    "grpo": Arm("GRPO", {"method": "grpo"}, usual=False),
    "grpo_va": Arm("GRPO, tokens by VA", {"method": "grpo_va"}, usual=False),
    "self": Arm("Self-distillation, coarse figures", {**SELF, **ALIKE}, student="teacher", usual=False),
    "self_va": Arm("Self-distillation by VA, coarse figures", SELF, student="teacher", usual=False),
}


@dataclass(frozen=True)
class Regime:
    """What is trained. freeze: ``vaopd.freeze``; rank: of adapters on the language model's linear layers, 0: none."""

    freeze: tuple[str, ...] = ()
    rank: int = 0


VISION = ("vision", "merger")
OWN = "own"
REGIMES = {"frozen": Regime(VISION), "all": Regime(), "lora": Regime(VISION, rank=8)}


@dataclass(frozen=True)
class Cell:
    """regime: of ``REGIMES``. rate: of AdamW; None, named ``own``: that at which an arm gains most. words: S.

    Its name is ``regime-rate-words``.
    """

    regime: str
    rate: float | None
    words: int

    @property
    def name(self) -> str:
        return f"{self.regime}-{OWN if self.rate is None else f'{self.rate:g}'}-{self.words}"

    @classmethod
    def named(cls, name: str) -> "Cell":
        """From its name.

        Raises:
            ValueError: another form, an unknown regime, words that are not there, a rate that is neither ``own`` nor a
                number above 0 of at most six digits: those that its folder's name has.
        """
        regime, _, rest = name.partition("-")
        rate, _, words = rest.rpartition("-")
        try:
            cell = cls(regime, None if rate == OWN else float(rate), int(words))
        except ValueError:
            cell = None
        if cell is None or regime not in REGIMES or cell.words not in LENGTHS or not cell._rate_is_named():
            raise ValueError(
                f"cell {name!r}: must read REGIME-RATE-WORDS, as frozen-2e-5-160; regimes: {', '.join(REGIMES)}; "
                f"rate: a number above 0 of at most six digits, or {OWN}; words: {', '.join(map(str, LENGTHS))}"
            )
        return cell

    def _rate_is_named(self) -> bool:
        return self.rate is None or is_named(self.rate)


def is_named(rate: float) -> bool:
    """Whether a rate is above 0 and its name, of at most six digits, says all of it."""
    return 0 < rate < float("inf") and float(f"{rate:g}") == rate


@dataclass(frozen=True)
class Run:
    """figures: which split it is measured on: ``test`` where rates are chosen, ``validation`` where it counts."""

    cell: Cell
    arm: str
    seed: int
    figures: str = "validation"
    updates: int = 30
    prompts: int = 4
    rollouts: int = 4

    @property
    def name(self) -> str:
        return f"{self.figures}/{self.cell.name}/{self.arm}/seed_{self.seed}"

    def record(self) -> dict:
        """What the run's folder says of it."""
        return {**asdict(self), "title": ARMS[self.arm].title, "student": ARMS[self.arm].student}
