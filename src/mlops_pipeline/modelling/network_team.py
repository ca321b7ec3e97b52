"""Several processes that learn one network: each from its part of every step's rows, by the sum of all gradients (``torch.distributed``,
gloo, on loopback).

This one leads: it alone looks at the rows held back, keeps the fit and says how far it is. The others are started by it
(``python -m MODULE FOLDER RANK``, of the module that knows the rows), take the same steps from the same weights, and end when it does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import distributed

from mlops_pipeline.environment import beside
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.network_training import ALONE, Course, Rows, Team, steps_of

ABOUT, ROWS, COURSE, MEETING, SAID = "about.json", "rows.npz", "course.npz", "meeting", "said"
"""What lies in the folder that a team shares: what all are told, what is learned from, where it begins, where they meet, what one said."""

TAUGHT = "taught"
"""Of what is learned from, the places of the rows that steps are drawn from."""

OF_FIXED = "fixed "
"""What stands there before the names of weights that do not learn."""

END = 0
"""Said in place of a pass when there is no other."""

LOOK_S = 0.05
"""How often it is looked whether all have come."""

PATIENCE = datetime.timedelta(days=7)
"""While the leader scores the others wait. Who dies is known at once, by its closed connection."""


class Told(msgspec.Struct):
    """What everyone of a team goes by, whatever the rows are."""

    size: int
    threads: int
    seed: int
    dropout: float
    learning_rate: float
    weight_decay: float
    batch: int
    is_limited: bool
    """In time: after each step the leader says whether the pass stops there."""


Kind = TypeVar("Kind", bound=Told)


class Together(Team):
    """A team of several."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self._size = rank, size

    def losses(self, rows: Rows, weights: Mapping[str, Any], chosen: np.ndarray) -> Iterator[Any]:
        mine = chosen[self.rank :: self._size]
        if len(mine):
            yield from (loss * (len(mine) / len(chosen)) for loss in rows.losses(weights, mine))

    def add_up(self, weights: list[Any]) -> None:
        # One buffer, one message. Gloo gives everyone the same bits.
        found = [torch.zeros_like(each) if each.grad is None else each.grad for each in weights]
        whole = torch.cat([each.flatten() for each in found])
        distributed.all_reduce(whole)
        for each, summed in zip(weights, whole.split([each.numel() for each in weights]), strict=True):
            each.grad = summed.view_as(each)

    def agreed(self, number: int) -> int:
        """The leader's number, whatever the others'."""
        said = torch.tensor(number)
        distributed.broadcast(said, 0)
        return int(said)

    def stops(self, *, is_late: bool) -> bool:
        return bool(self.agreed(int(is_late)))


class _Leader(Together):
    """This process, with the others beside it."""

    def __init__(self, folder: Path, size: int, module: str) -> None:
        super().__init__(0, size)
        self._folder, self._module = folder, module
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self, course: Course) -> None:
        np.savez(self._folder / COURSE, **course.arrays())
        for rank in range(1, self._size):
            words = [sys.executable, "-P", "-m", self._module, str(self._folder), str(rank)]
            with (self._folder / f"{SAID} {rank}").open("wb") as said:
                self.processes.append(subprocess.Popen(words, env=beside(), stdin=subprocess.PIPE, stdout=said, stderr=said))
        _meet(self._folder, 0, self._size, self._look)
        for name in (ROWS, COURSE):  # all have read them: a kill leaves no rows behind
            (self._folder / name).unlink()

    def begin_pass(self, turn: int) -> None:
        self.agreed(turn)

    def end(self) -> None:
        """Let the others go."""
        self.agreed(END)

    def _look(self) -> None:
        """Raise if one has ended."""
        for rank, process in enumerate(self.processes, 1):
            if process.poll() is not None:
                raise self.lost(rank)

    def lost(self, rank: int | None = None) -> PipelineError:
        """What is said if one has ended; None: whichever it was."""
        if rank is None:
            ended = [place for place, process in enumerate(self.processes, 1) if _ended(process)]
            rank = ended[0] if ended else 1
        code = self.processes[rank - 1].returncode
        said = (self._folder / f"{SAID} {rank}").read_text(errors="replace").strip().splitlines()
        why = said[-1] if said else signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return PipelineError(f"train.params.processes = {self._size}: process {rank} ended: {why}: use fewer, or 1")


@contextlib.contextmanager
def team_of(told: Told, rows: Callable[[], Mapping[str, np.ndarray]], module: str) -> Iterator[Team]:
    """So many as are told, this process the first; ``rows`` gives what the others make theirs of, and ``module`` is what they run.

    They are gone afterwards. Raises :class:`PipelineError` if one of them ends early.
    """
    if told.size == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="mlops-team-") as temporary:
        folder = Path(temporary)
        (folder / ABOUT).write_bytes(msgspec.json.encode(told))
        np.savez(folder / ROWS, **rows())  # type: ignore[arg-type]  # its other arguments are no arrays
        leader = _Leader(folder, told.size, module)
        try:
            yield leader
            leader.end()
        except RuntimeError as error:
            if any(_ended(process) for process in leader.processes):
                raise leader.lost() from error
            raise
        finally:
            for process in leader.processes:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def follow(
    words: Sequence[str],
    kind: type[Kind],
    rows_of: Callable[[Kind, Mapping[str, np.ndarray]], Rows],
    faster: Mapping[str, float] | None = None,
) -> None:
    """Take the steps that the leader takes, until it says that there are no more; or end when it does.

    ``words`` are the folder and this one's number, ``rows_of`` makes rows of what all are told and of the leader's arrays.
    """
    _end_with_the_leader()
    folder, rank = Path(words[0]), int(words[1])
    told = msgspec.json.decode((folder / ABOUT).read_bytes(), type=kind)
    torch.set_num_threads(told.threads)
    with np.load(folder / ROWS, allow_pickle=False) as kept:
        known = {name: kept[name] for name in kept.files}
    taught, rows = known.pop(TAUGHT), rows_of(told, known)
    with np.load(folder / COURSE, allow_pickle=False) as kept:
        course = Course.begun(told, Course.weights_in(kept), torch.device("cpu"), faster)
        course.restore(kept)
    _meet(folder, rank, told.size)
    team = Together(rank, told.size)
    while (turn := team.agreed(END)) != END:
        for _ in steps_of(told, rows, course, taught, told.batch, turn, team):
            if told.is_limited and team.stops(is_late=False):
                break


def _meet(folder: Path, rank: int, size: int, look: Callable[[], None] = lambda: None) -> None:
    """Join the team that meets in a folder; ``look`` is called again and again until all have come."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    store = distributed.FileStore(str(folder / MEETING), size)
    if rank:
        store.set(f"here {rank}", "")
    else:
        while not store.check([f"here {other}" for other in range(1, size)]):
            look()
            time.sleep(LOOK_S)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended, or does at once."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    return process.returncode is not None


def _end_with_the_leader() -> None:
    """End this process when the one that started it does, whatever it waits for."""

    def wait() -> None:
        sys.stdin.buffer.read()  # nothing is said by it; its end is the leader's
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
