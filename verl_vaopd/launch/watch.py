"""Looking after a run's processes from the one that started the driver, so that a dead one ends the run by name.

The driver notices a dead worker when it next asks it for something, which may be after a long generation, or never: the
student waits for ever for a vLLM engine to take its weights.
"""

import re
import threading

import ray

WATCHED = ("student_", "teacher_", "vllm_server_", "agent_loop_worker_")
"""How the names of actors begin that live as long as the run."""
HAS_ENGINE = re.compile(r"vllm_server_(\D+_)?\d+_0(?!\d)")
"""Names of servers that hold an engine: the replica's and its node's number follow, and the first node has it."""
OUT_OF_MEMORY = re.compile(
    r"Memory on the node \(IP: ([\d.:a-f]+),.*?\) was ([\d.]+GB) used / ([\d.]+GB) limit", re.DOTALL
)
STARTED_LAST = "agent_loop_worker_"
"""How the names of actors begin that are started when all engines are up."""


class ActorDied(Exception):
    """The driver, a worker or a vLLM engine died; the text says which and what is known of it."""


class Watch:
    """Kills the driver when an actor or a vLLM engine of its run has died; :attr:`died` then says which and how.

    Args:
        driver: actor handle of the task runner.
        every_s: seconds between looks. An actor counts as dead when two looks in a row miss it.
    """

    def __init__(self, driver, every_s: float = 5.0):
        self.died: str | None = None
        self.driver = driver
        self._every_s = every_s
        self._actors: dict[str, ray.actor.ActorHandle] = {}
        self._missed: set[str] = set()
        self._questions: dict[str, list[ray.ObjectRef]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join(timeout=15)  # Ray may be gone, and not answer

    def last_look(self, error: ray.exceptions.RayError) -> str | None:
        """Close; say what died, if anything did, now that the driver's task has ended with ``error``."""
        self.close()
        if self.died:
            return self.died
        if isinstance(error, ray.exceptions.RayTaskError):  # the driver lives
            return self._look(certain=True)
        return f"the driver died: {_said(error)}" if isinstance(error, ray.exceptions.RayActorError) else None

    def _look_on(self) -> None:
        while not self._ended.wait(self._every_s):
            if died := self._look():
                self.died = died
                ray.kill(self.driver)
                return

    def _look(self, certain: bool = False) -> str | None:
        alive = {name for name in ray.util.list_named_actors() if name.startswith(WATCHED)}
        for name in alive - set(self._actors):
            try:
                self._actors[name] = ray.get_actor(name)
            except ValueError:  # ended meanwhile
                continue
        missing = set(self._actors) - alive
        dead = sorted(missing if certain else missing & self._missed)
        self._missed = missing
        if dead:
            return "\n".join(f"{name} died: {_cause(self._actors[name])}" for name in dead)
        return self._dead_engine(alive, 5.0 if certain else 0.0)

    def _dead_engine(self, alive: set[str], wait_s: float) -> str | None:
        """A server outlives the engine that it talks to, and says so when asked; before it has one it cannot be."""
        if not any(name.startswith(STARTED_LAST) for name in self._actors):
            return None
        dead = None
        for name in sorted(alive & set(self._actors)):
            if not HAS_ENGINE.match(name):
                continue
            # A busy engine answers later, one that dies may never answer what it was asked before.
            asked = self._questions.setdefault(name, [])
            asked.append(self._actors[name].collective_rpc.remote("check_health"))
            ray.wait([asked[-1]], timeout=wait_s)
            answered, self._questions[name] = ray.wait(asked, num_returns=len(asked), timeout=0)
            for answer in answered:  # all are read: Ray shows an error that nobody has read
                try:
                    ray.get(answer)
                except ray.exceptions.RayTaskError as error:
                    if type(error.cause).__name__ == "EngineDeadError":
                        dead = f"the vLLM engine of {name} died: {error.cause}"
                    # Any other error is one that the driver meets itself.
                except ray.exceptions.RayError:  # the actor itself: the next look misses it
                    continue
        return dead


def _cause(actor) -> str:
    """What Ray knows of an actor's end."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=10)
    except ray.exceptions.RayError as error:
        return _said(error)
    return "Ray does not say why"


def _said(error: ray.exceptions.RayError) -> str:
    """Ray's words; of the pages that it has on a node without memory, what a person needs."""
    if not (full := OUT_OF_MEMORY.search(words := str(error))):
        return words
    return (
        f"Ray ended it because node {full[1]} was out of memory ({full[2]}, {full[3]} there is): end what else runs on "
        "it, or take a larger one; RAY_memory_usage_threshold moves the limit"
    )
