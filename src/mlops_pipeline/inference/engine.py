"""Arrays in, arrays out: a loaded model, and the one function that predicts with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.contract.spec import CATEGORIES, NUMBERS, Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.inference.formats import Engine, folder_of, formats_in, load
from mlops_pipeline.inference.session import session_of
from mlops_pipeline.inference.texts import with_texts

PART = 256
"""Rows that one thread takes at a time, at least."""

TURNS = 4
"""So often each thread takes some of many rows: each time it waits for the interpreter, and by fewer one would work alone at the end."""

PROBES = 32

FEW = 64
"""Values that Python adds up faster than NumPy."""

# A sum that overflows is looked at again, and is no news to a user.
warnings.filterwarnings("ignore", "(overflow|invalid value) encountered in reduce", RuntimeWarning)


class NotFinite(Exception):
    """A model said NaN or infinity. ``rows`` are the places of the rows it said it of, ``outputs`` are all of its outputs."""

    def __init__(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        super().__init__(
            f"the model's output is not finite on row {int(rows[0])}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
        )
        self.rows, self.outputs = rows, outputs


def score(engine: Engine, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
    """What a model says of checked rows: the one way from a row to a prediction, whoever asks.

    Class probabilities, float32 (rows, classes), or values, float32 (rows,). Raises :class:`NotFinite`, and what the engine raises.
    """
    outputs = engine.predict(numbers, categories)
    # A sum is finite if all of its parts are, short of an overflow, and takes less time than a look at each.
    total = sum(outputs.ravel().tolist()) if outputs.size <= FEW else np.add.reduce(outputs, axis=None)
    if not isfinite(total):
        bad = ~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
        if bad.any():
            raise NotFinite(np.flatnonzero(bad), outputs)
    return outputs


def load_engine(folder: Path, contract: Contract, threads: int = 0, only: str | None = None) -> Engine:
    """The fastest engine that this version has, or the one of the format named ``only``; ``threads`` 0: every core of ours.

    Raises :class:`PipelineError` if the folder holds no format that is known here, its own needs a part that is not, or it is damaged.
    """
    for form in formats_in(folder):
        if only in (None, form.name):
            if not form.twin:
                _check_parts(folder, contract)
            try:
                return load(form, folder, contract, threads or len(os.sched_getaffinity(0)))
            except PipelineError:
                raise
            except ImportError as error:
                raise PipelineError(
                    f"{folder}: has no twin, and its own model needs the training libraries ({one_line(error)}): install them"
                ) from error
            except Exception as error:  # whatever a format's own library says
                raise PipelineError(
                    f"{folder_of(form, folder) / form.file}: cannot be loaded ({one_line(error)}): restore it, or promote another version"
                ) from error
    _check_parts(folder, contract)
    forms = (form for name, form in plugins.parts(plugins.ModelFormat).items() if only in (None, name))
    known = ", ".join((folder_of(form, Path()) / form.file).as_posix() for form in forms)
    raise PipelineError(f"{folder}: holds no model in a format known here ({known}): fetch it anew, or train again")


def _check_parts(folder: Path, contract: Contract) -> None:
    """A twin holds all that the model is made of; the model itself needs the parts that it was made by."""
    lacking = plugins.lacking(contract.parts)
    if lacking:
        raise PipelineError(f"{folder}: needs {lacking}, which is not here: name its file under plugins:")


class OnnxEngine:
    """The ONNX twin. ``threads`` is what this worker owns of the machine.

    ONNX Runtime adds up trees in another order when several threads share one row, and a lone row of a linear model goes through
    another routine than several: the last bits would depend on a row's neighbours. So each session keeps to one thread, rows are
    shared out among threads here, and a lone row is doubled where that is seen to matter.
    """

    name = "onnx"
    precision = np.float32

    def __init__(self, content: bytes, *, has_classes: bool, threads: int = 1) -> None:
        session = session_of(content)
        self._run = session.run
        self._classes = has_classes
        self._outputs = [session.get_outputs()[1 if self._classes else 0].name]
        self._pool = ThreadPoolExecutor(threads, "onnx") if threads > 1 else None
        self._turns = TURNS * threads
        self._doubled = False
        self._doubled = self._depends_on_neighbours({given.name: given.shape[1] for given in session.get_inputs()})

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        feeds: dict[str, np.ndarray] = {}
        if numbers is not None:
            feeds[NUMBERS] = numbers
        if categories is not None:
            feeds[CATEGORIES] = categories
        count = len(numbers if numbers is not None else categories)  # type: ignore[arg-type]  # a model has columns
        if count < 2 * PART and not (self._doubled and count == 1):
            outputs: np.ndarray = self._run(self._outputs, feeds)[0]
        elif count == 1:
            outputs = self._said({name: values.repeat(2, axis=0) for name, values in feeds.items()})[:1]
        elif self._pool is None:
            outputs = self._said(feeds)
        else:
            outputs = np.concatenate(list(self._pool.map(self._said, _parts(feeds, count, max(PART, count // self._turns)))))
        return outputs if self._classes else outputs.reshape(-1)

    def _said(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        outputs: np.ndarray = self._run(self._outputs, feeds)[0]
        return outputs

    def _depends_on_neighbours(self, widths: dict[str, int]) -> bool:
        """Whether a row alone gets other bits than the same row twice."""
        draw = np.random.default_rng(0)
        numbers = draw.normal(scale=10, size=(PROBES, widths[NUMBERS])).astype(np.float32) if NUMBERS in widths else None
        categories = np.full((PROBES, widths[CATEGORIES]), MISSING, dtype=object) if CATEGORIES in widths else None
        together = self.predict(numbers, categories)
        for row in range(PROBES):
            alone = self.predict(*(None if part is None else part[row : row + 1] for part in (numbers, categories)))
            if alone.tobytes() != together[row : row + 1].tobytes():
                return True
        return False


def onnx_engine(folder: Path, contract: Contract, threads: int) -> Engine:
    """The engine of the ONNX twin in a folder, with what reads its texts."""
    graph = OnnxEngine((folder / "model.onnx").read_bytes(), has_classes=contract.kind.has_classes, threads=threads)
    return with_texts(graph, folder, contract, threads)


def _parts(feeds: dict[str, Any], count: int, size: int) -> Iterator[dict[str, Any]]:
    # Two rows at least in each: a lone one may go another way.
    starts = [*range(0, count - 1, size), count]
    for start, end in pairwise(starts):
        yield {name: values[start:end] for name, values in feeds.items()}
