"""How long a step waits for its rollouts: a seeded simulation of verl's two trainer modes, step after step.

``sync``: every answer of the batch is awaited. ``colocate_async``: ``num_warmup_batches`` are added once and a batch at
every step; a step takes the first ``train_batch_size`` groups whose siblings have all ended, the oldest first, and
interrupts the others: they keep their tokens, are prefilled again and go on under the next weights.
 A group that is taken in the step that added it has been in 1 step, and so on. Where one that has not ended has been in
``max_off_policy_threshold`` steps, ``wait`` holds the step until it ends. ``drop`` throws away what ends, or is left
over, in a later step than that, and adds another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from verl_vaopd.planning.lengths import Draw
from verl_vaopd.planning.replica import Replica

BEFORE, COUNTED = 20, 150  # steps: until the mix of old and new groups is a usual one, and then
FEWEST, ANSWERS = 10, 100_000  # steps that are counted at least; answers after which no more than those are
MOST = 2**14  # answers on their way at a time


@dataclass(frozen=True)
class Mode:
    """``trainer.v1``; the defaults are sync."""

    warmup: float | None = None
    """Batches added before the first step; None: sync."""
    threshold: int | None = None
    drop: bool = False

    @property
    def ahead(self) -> float:
        """Batches on their way beside a step's own."""
        return self.warmup or 0

    def __str__(self) -> str:
        if self.warmup is None:
            return "sync"
        bound = "no bound" if self.threshold is None else f"{'drop' if self.drop else 'wait'} at {self.threshold}"
        return f"colocate_async, {self.warmup:g} warm-up, {bound}"


@dataclass(eq=False)
class Group:
    """Siblings on their way; arrays are [K]."""

    born: int
    """The step that added it."""
    length: np.ndarray
    replica: np.ndarray
    written: np.ndarray
    by_step: dict[int, int] = field(default_factory=dict)
    """Step to tokens that its weights wrote."""

    @property
    def left(self) -> np.ndarray:
        return self.length - self.written


@dataclass(frozen=True)
class Waited:
    """Of one step; tokens are of all answers that it takes, but those thrown away or prefilled again."""

    seconds: float
    tokens: int
    lag: int
    """Sum over tokens of the updates since they were written."""
    stale: int
    """Tokens that weights before the current ones wrote."""
    oldest: int
    """Largest lag."""
    thrown: int
    again: int
    """Tokens of prompts and answers prefilled again."""
    batch: float
    """Sequences on a replica at the start."""


@dataclass
class Simulation:
    """``prompts`` a step, ``rollouts`` of each, on equal replicas; sequences go where fewest are, and stay there."""

    replica: Replica
    replicas: int
    prompts: int
    rollouts: int
    draw: Draw
    mode: Mode
    generator: np.random.Generator
    groups: list[Group] = field(default_factory=list)
    step: int = 0

    def waits(self) -> Iterator[Waited]:
        """Step after step, without end."""
        while True:
            yield self._wait()

    def add(self, prompts: int) -> None:
        busy = self._busy()
        for lengths in self.draw(self.generator, prompts, self.rollouts):
            replica = np.empty(self.rollouts, dtype=np.int64)
            for place in range(self.rollouts):
                fewest = np.flatnonzero(busy == busy.min())
                replica[place] = self.generator.choice(fewest)
                busy[replica[place]] += 1
            self.groups.append(Group(self.step, lengths, replica, np.zeros_like(lengths)))

    def _busy(self) -> np.ndarray:
        """[replicas] sequences that have not ended."""
        running = [group.replica[group.left > 0] for group in self.groups]
        return np.bincount(np.concatenate([*running, []]).astype(int), minlength=self.replicas)

    def _wait(self) -> Waited:
        self.step += 1
        self.add(self.prompts + (round(self.mode.ahead * self.prompts) if self.step == 1 else 0))
        batch = self._busy().mean()
        ready, again = self._prefilled()
        elapsed, thrown = 0.0, 0
        while True:
            ends, clocks = self._ends(ready)
            until, evicted = self._until(ends)
            self._advance(until, clocks, ready)
            elapsed += until
            if not evicted:
                break
            thrown += sum(int(group.written.sum()) for group in evicted)
            self.groups = [group for group in self.groups if group not in evicted]
            self.add(len(evicted))
            ready = np.maximum(ready - until, 0)
            for group in self.groups[-len(evicted) :]:
                for place in np.unique(group.replica):
                    ready[place] += self.replica.prefill(1, np.zeros(0))
        whole = sorted((group for group in self.groups if not group.left.any()), key=lambda group: group.born)
        taken = whole[: self.prompts]
        gone = set(taken)
        self.groups = [group for group in self.groups if group not in gone]
        return self._told(taken, elapsed, thrown, again, batch)

    def _table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[groups, K] each: tokens left, tokens written, replica."""
        left, written, replica = zip(*((each.left, each.written, each.replica) for each in self.groups), strict=True)
        return np.stack(left), np.stack(written), np.stack(replica)

    def _prefilled(self) -> tuple[np.ndarray, int]:
        """[replicas] seconds until each has prefilled what it has to write; tokens prefilled again."""
        ready, again = np.zeros(self.replicas), 0
        left, written, replica = self._table()
        old = np.array([group.born < self.step for group in self.groups])
        for place in range(self.replicas):
            here = (replica == place) & (left > 0)
            interrupted = written[here & old[:, None]]
            ready[place] = self.replica.prefill(int(here.any(1).sum()), interrupted)
            again += int((here.any(1) & old).sum()) * self.replica.prompt_tokens + int(interrupted.sum())
        return ready, again

    def _ends(self, ready: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """[groups] seconds until the last sibling ends, and every replica's ends of decoding steps."""
        left, written, replica = self._table()
        ends, clocks = np.zeros(left.shape), []
        for place in range(self.replicas):
            here = (replica == place) & (left > 0)
            clock = np.zeros(0)
            if here.any():
                clock = ready[place] + self.replica.decoding(left[here], written[here])
                ends[here] = clock[left[here] - 1]
            clocks.append(clock)
        return ends.max(1), clocks

    def _until(self, ends: np.ndarray) -> tuple[float, list[Group]]:
        """Seconds until the step has its groups, and none; or until groups end that are thrown away, and those."""
        age = self.step - np.array([group.born for group in self.groups]) + 1
        bound = self.mode.threshold
        if bound is None or not self.mode.drop:
            until = np.sort(ends)[self.prompts - 1]
            if bound is not None:
                until = max(until, ends[age >= bound].max(initial=0))
            return float(until), []
        stale = age > bound
        enough = np.sort(np.append(ends[~stale], np.full(self.prompts, np.inf)))[self.prompts - 1]
        first = ends[stale].min(initial=np.inf)
        if first > enough:
            return float(enough), []
        return float(first), [
            group for group, old, end in zip(self.groups, stale, ends, strict=True) if old and end == first
        ]

    def _advance(self, seconds: float, clocks: list[np.ndarray], ready: np.ndarray) -> None:
        """Write what the replicas write in ``seconds``; a decoding step that has not ended writes nothing."""
        steps = np.array([np.searchsorted(clock, seconds, side="right") for clock in clocks])
        for group in self.groups:
            new = np.minimum(group.left, steps[group.replica])
            group.written = group.written + new
            if new.any():
                group.by_step[self.step] = group.by_step.get(self.step, 0) + int(new.sum())

    def _told(self, taken: list[Group], seconds: float, thrown: int, again: int, batch: float) -> Waited:
        written = [(self.step - step, tokens) for group in taken for step, tokens in group.by_step.items()]
        return Waited(
            seconds=seconds,
            tokens=sum(tokens for _, tokens in written),
            lag=sum(lag * tokens for lag, tokens in written),
            stale=sum(tokens for lag, tokens in written if lag),
            oldest=max(lag for lag, _ in written),
            thrown=thrown,
            again=again,
            batch=float(batch),
        )


@dataclass(frozen=True)
class Forecast:
    """Means over ``COUNTED`` steps, fewer where a step has many answers."""

    seconds: float
    """Of generation, a step."""
    staleness: float
    """Updates between a token and the step that learns from it, mean over tokens; 0: the current weights wrote it."""
    oldest: int
    """Largest staleness of all."""
    stale_share: float
    """Of tokens that weights before the current ones wrote."""
    thrown: float
    """Tokens thrown away, a step."""
    again: float
    """Tokens prefilled again, a step."""
    batch: float
    """Sequences on a replica when a step begins."""


def forecast(simulation: Simulation) -> Forecast:
    """What a run's steps are like after the first ``BEFORE``.

    Raises:
        ValueError: more warm-up, or more answers on their way, than are simulated.
    """
    ahead = simulation.mode.ahead
    answers = round((1 + ahead) * simulation.prompts * simulation.rollouts)
    if ahead > BEFORE:
        raise ValueError(
            f"trainer.v1.colocate_async.num_warmup_batches={ahead:g} has no plan: at most {BEFORE}, since {BEFORE} "
            "steps are simulated before the first that counts"
        )
    if answers > MOST:
        raise ValueError(
            f"{answers:,} answers on their way have no plan, at most {MOST:,}: lower "
            "data.train_batch_size, actor_rollout_ref.rollout.n or trainer.v1.colocate_async.num_warmup_batches"
        )
    counted = max(FEWEST, min(COUNTED, ANSWERS // answers - BEFORE))
    waits = list(islice(simulation.waits(), BEFORE, BEFORE + counted))
    tokens = sum(wait.tokens for wait in waits)
    return Forecast(
        seconds=float(np.mean([wait.seconds for wait in waits])),
        staleness=sum(wait.lag for wait in waits) / tokens,
        oldest=max(wait.oldest for wait in waits),
        stale_share=sum(wait.stale for wait in waits) / tokens,
        thrown=float(np.mean([wait.thrown for wait in waits])),
        again=float(np.mean([wait.again for wait in waits])),
        batch=float(np.mean([wait.batch for wait in waits])),
    )
