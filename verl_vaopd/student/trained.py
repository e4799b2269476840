"""What of the student a run trains, as its checkpoints say it: they hold nothing else."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "trained.json"


@dataclass
class Trained:
    """Beside a checkpoint's shards, in :data:`FILE`."""

    base: str
    """The student that the run began with, which has what is not trained."""
    freeze: list[str] = field(default_factory=list)
    """``vaopd.freeze``, with verl's freeze_vision_tower."""
    lora: dict | None = None
    """Rank, alpha and layers of the adapters."""
    unreached: list[str] | None = None
    """Parameters that no forward reaches; None: no step has been made."""

    @property
    def everything(self) -> bool:
        return not (self.freeze or self.lora or self.unreached)

    def write(self, actor: str | Path) -> None:
        (Path(actor) / FILE).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, actor: str | Path) -> "Trained | None":
        """Of the checkpoint folder ``actor``; None: of a version that trained everything."""
        path = Path(actor) / FILE
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def require_same(self, was: "Trained | None", checkpoint: str | Path) -> None:
        """Refuse to go on from a checkpoint of a run that trained something else.

        Raises:
            ValueError: names the setting and what it was.
        """
        was = was or Trained(self.base)
        for setting, now, then in (
            ("vaopd.freeze", self.freeze, was.freeze),
            ("actor_rollout_ref.model.lora_rank, lora_alpha, target_modules, exclude_modules", self.lora, was.lora),
        ):
            if now != then:
                raise ValueError(
                    f"{setting}: {now or 'nothing'}, but {checkpoint} is of a run with {then or 'nothing'}. Set what "
                    "that run had, or vaopd.output_dir (RUN_DIR of a recipe) to a new folder"
                )
