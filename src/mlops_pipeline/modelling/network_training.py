"""How anything learns in passes by PyTorch, whatever its rows are: a network (:mod:`tabular_training`), an encoder of text."""

from __future__ import annotations

import hashlib
import math
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import replacing, sha256_of_file
from mlops_pipeline.modelling.fitting import Fitting, Learning

LONGEST_MEMORY = 0.999
"""What is kept are the weights averaged over the steps: each step moves the average by what is left of 1, the first ones by more."""

LONGEST_STEP = 1.0
"""The norm that gradients are cut to."""

SAY_EVERY_S = 2.0
"""How often it is said how far a pass is."""

OF_WEIGHT = "weight "
"""What stands before the names of weights where a fit is kept."""

CODE = (Path(__file__),)
"""A fit by other code does not go on where this one was stopped."""


@contextmanager
def threads_of(asked: int | None, device: Any, processes: int = 1) -> Iterator[int]:
    """PyTorch with its share of so many threads, None: one a core; what is drawn meanwhile moves nobody else's seed.

    Of GPUs that are not learned on nothing is asked, which would take some of the memory of each.
    """
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    threads = max(1, min(asked or cores, cores) // processes)
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
            yield threads
    finally:
        torch.set_num_threads(before)


class Rows(Protocol):
    """What is learned from, on a device."""

    def batches(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        """The rows of each step of a pass, of rows in a drawn order."""
        ...

    def losses(self, weights: Mapping[str, Any], chosen: np.ndarray) -> Iterator[Any]:
        """What the mean loss of a step's rows is the sum of: each is forgotten before the next is made."""
        ...

    def mean_loss(self, weights: Mapping[str, Any], chosen: np.ndarray) -> tuple[float, np.ndarray | None]:
        """The loss of some rows, nothing dropped, and the probabilities, float64, if there are classes."""
        ...


class Team:
    """Who takes a step: this process alone (:data:`ALONE`); several in :mod:`network_team`."""

    rank = 0

    def begin(self, course: Course) -> None:
        """Let the others begin where this one is."""

    def begin_pass(self, turn: int) -> None:
        """Let the others take the steps of a pass, too."""

    def losses(self, rows: Rows, weights: Mapping[str, Any], chosen: np.ndarray) -> Iterator[Any]:
        """What the mean loss of a step's rows is the sum of, as far as it is this process's to say."""
        return rows.losses(weights, chosen)

    def add_up(self, weights: list[Any]) -> None:
        """Give the weights the sum of all gradients."""

    def stops(self, *, is_late: bool) -> bool:
        """Whether a pass stops after this step, since for the one that leads it is late."""
        return is_late


ALONE = Team()


class Stepping(Protocol):
    """How steps go."""

    seed: int
    learning_rate: float
    weight_decay: float


def steps_of(
    of: Stepping, rows: Rows, course: Course, taught: np.ndarray, batch: int, turn: int, team: Team = ALONE
) -> Iterator[tuple[int, int]]:
    """The steps of a pass, the first of which is 1: after each, how many were taken, and of how many."""
    # What is drawn follows from the seed and the pass, and so a fit that goes on after a kill draws the same.
    turn -= 1
    drawn = [of.seed, turn, team.rank] if team.rank else [of.seed, turn]
    torch.manual_seed(int(np.random.SeedSequence(drawn).generate_state(1)[0]))
    order = np.random.default_rng([of.seed, turn]).permutation(taught)
    steps = rows.batches(order, batch)
    for place, chosen in enumerate(steps, 1):
        course.step(team.losses(rows, course.weights, chosen), team.add_up)
        yield place, len(steps)


def learn(
    of: Learning,
    rows: Rows,
    course: Course,
    taught: np.ndarray,
    held: np.ndarray,
    batch: int,
    during: Fitting,
    key: str,
    *,
    knows: bool = False,
    limit_s: float | None = None,
    team: Team = ALONE,
) -> None:
    """Passes over the rows ``taught``, until those held back say that it is enough, or the time is over.

    ``course`` then holds what was learned. Where it ``knows`` something before the first pass, that counts as one: it may be the best.
    """
    kept = _Kept(during.checkpoint, key)
    kept.resume(course)
    team.begin(course)

    def end_pass(turn: int) -> None:
        loss, said = rows.mean_loss(course.mean, held)
        if not math.isfinite(loss):
            raise PipelineError(f"train.params.learning_rate = {of.learning_rate}: the loss of pass {turn} is no number: use a lower one")
        worth = during.worth(held, said) if during.worth is not None and said is not None else math.nan
        course.end_pass(loss, -worth if math.isfinite(worth) else loss)
        kept.keep(course)
        during.say(f"pass {turn}, loss {loss:.4f}" + (f", {during.measure} {during.measured(worth):.4f}" if math.isfinite(worth) else ""))

    if knows and not course.losses:
        end_pass(0)
    most = of.epochs + knows
    while course.goes_on(most, of.patience) and not course.is_late(limit_s):
        turn, began = len(course.losses) - knows + 1, time.monotonic()
        team.begin_pass(turn)
        spent, told = course.seconds, began
        for taken, most_steps in steps_of(of, rows, course, taught, batch, turn, team):
            now = time.monotonic()
            course.seconds = spent + now - began
            if now - told > SAY_EVERY_S:
                told = now
                during.say(f"pass {turn}: {taken:,} of {most_steps:,} steps")
            if limit_s is not None and team.stops(is_late=course.is_late(limit_s)):
                during.tell(
                    f"stopped in pass {turn} of {of.epochs}, as {limit_s:g} s were over (train.params.time_limit_s): "
                    "on another machine it may learn more"
                )
                break
        end_pass(turn)
    kept.remove()


@dataclass
class Course:
    """How far a fit is: the weights, their average over the steps, and the mean of these averages from the best pass on."""

    weights: dict[str, Any]
    mean: dict[str, Any]
    optimizer: Any
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    """What passes are compared by."""
    best: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    """How long its passes have taken."""

    @classmethod
    def begun(cls, of: Stepping, first: Mapping[str, np.ndarray], device: Any, faster: Mapping[str, float] | None = None) -> Course:
        """With the first weights; ``faster`` says how many times the learning rate some of them go by."""
        weights = {name: torch.tensor(each, device=device, requires_grad=True) for name, each in first.items()}
        own = faster or {}
        groups: list[dict[str, Any]] = [{"params": [each for name, each in weights.items() if name not in own]}]
        groups += [{"params": [weights[name]], "lr": of.learning_rate * times} for name, times in own.items()]
        optimizer = torch.optim.AdamW(
            [each for each in groups if each["params"]], lr=of.learning_rate, weight_decay=of.weight_decay, fused=True
        )
        return cls(weights, {name: each.detach().clone() for name, each in weights.items()}, optimizer)

    def step(self, losses: Iterable[Any], add_up: Callable[[list[Any]], None]) -> None:
        weights = list(self.weights.values())
        self.optimizer.zero_grad()
        for loss in losses:
            loss.backward()
        add_up(weights)
        torch.nn.utils.clip_grad_norm_(weights, LONGEST_STEP)
        self.optimizer.step()
        self.steps += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), weights, 1 - min(LONGEST_MEMORY, (1 + self.steps) / (10 + self.steps)))

    def end_pass(self, loss: float, cost: float) -> None:
        now = {name: each.cpu().numpy().copy() for name, each in self.mean.items()}
        if not self.costs or cost < min(self.costs):
            self.best = now
        else:
            # Which pass is best is known but roughly: those after it count as much as it does.
            since = len(self.costs) - self.costs.index(min(self.costs))
            self.best = {name: each + (now[name] - each) / np.float32(since + 1) for name, each in self.best.items()}
        self.losses.append(loss)
        self.costs.append(cost)

    def goes_on(self, most: int, patience: int) -> bool:
        """Whether there is another pass: not if so many have not been better than the best."""
        since = len(self.costs) - 1 - self.costs.index(min(self.costs)) if self.costs else 0
        return len(self.costs) < most and since < patience

    def is_late(self, limit_s: float | None) -> bool:
        """Whether its time is over."""
        return limit_s is not None and self.seconds >= limit_s

    def arrays(self) -> dict[str, Any]:
        """All of it, as NumPy keeps it."""
        found: dict[str, Any] = {name: np.array(getattr(self, name)) for name in ("losses", "costs", "steps", "seconds")}
        for name, each in self.weights.items():
            # There is none before the first step.
            state = self.optimizer.state.get(each) or {"exp_avg": torch.zeros_like(each), "exp_avg_sq": torch.zeros_like(each)}
            found |= {
                f"{OF_WEIGHT}{name}": each.detach().cpu().numpy(),
                f"mean {name}": self.mean[name].cpu().numpy(),
                f"best {name}": self.best.get(name, np.zeros(0)),
                f"first moment {name}": state["exp_avg"].cpu().numpy(),
                f"second moment {name}": state["exp_avg_sq"].cpu().numpy(),
            }
        return found

    @staticmethod
    def weights_in(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights among :meth:`arrays`, by name."""
        return {name.removeprefix(OF_WEIGHT): kept[name] for name in kept if name.startswith(OF_WEIGHT)}

    def restore(self, kept: Mapping[str, np.ndarray]) -> None:
        self.losses, self.costs = kept["losses"].tolist(), kept["costs"].tolist()
        self.steps, self.seconds = int(kept["steps"]), float(kept["seconds"])
        with torch.no_grad():
            for name, each in self.weights.items():
                each.copy_(torch.tensor(kept[f"{OF_WEIGHT}{name}"]))
                self.mean[name].copy_(torch.tensor(kept[f"mean {name}"]))
                self.best[name] = kept[f"best {name}"]
                self.optimizer.state[each] = {
                    "step": torch.tensor(float(self.steps), device=each.device),
                    "exp_avg": torch.tensor(kept[f"first moment {name}"], device=each.device),
                    "exp_avg_sq": torch.tensor(kept[f"second moment {name}"], device=each.device),
                }


@dataclass(frozen=True)
class _Kept:
    """Where a fit is kept after each pass, for one of the same rows, settings and code; nowhere without a file."""

    file: Path | None
    key: str

    def keep(self, course: Course) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as temporary, temporary.open("wb") as stream:
                np.savez(stream, key=np.array(self.key), **course.arrays())

    def resume(self, course: Course) -> None:
        """Bring a fit to where it was kept, if it was this one."""
        if self.file is None or not self.file.is_file():
            return
        try:
            with np.load(self.file, allow_pickle=False) as kept:
                # All of it before any of it is taken: a fit half restored would be another.
                found = {name: kept[name] for name in kept.files} if str(kept["key"]) == self.key else {}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return  # what cannot be read is learned again
        if found:
            course.restore(found)

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def key_of(of: Learning, code: Iterable[Path], *made_of: Any) -> str:
    """What a fit is made of, in one word."""
    digest = hashlib.sha256(repr((of.get_params(), torch.__version__, [sha256_of_file(file) for file in code])).encode())
    for each in made_of:
        digest.update(np.ascontiguousarray(each).tobytes() if isinstance(each, np.ndarray) else repr(each).encode())
    return digest.hexdigest()


def device_of(asked: str, processes: int = 1) -> Any:
    """The device that is asked for. Raises :class:`PipelineError` if there is no such one, or so many processes do not learn on it."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise PipelineError("train.params.device = 'cuda': PyTorch sees no GPU here: use auto, or install a build for yours")
    device = torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")
    if processes > 1 and device.type != "cpu":
        raise PipelineError(f"train.params.processes = {processes}: there is a GPU, which one process learns on: use 1, or device: cpu")
    return device


def parted(of: Learning, target: np.ndarray, during: Fitting) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from, and those held back (:meth:`Fitting.parted`)."""
    count = len(target)
    if count < 2:
        raise PipelineError(f"dataset: a network needs 2 training rows at least, not {count}: widen split")
    return during.parted(count, of.held_back, of.seed)
