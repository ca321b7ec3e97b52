"""Texts to numbers beside an ONNX graph, which has no operators for text that agree in every language.

A column of kind ``text`` reaches every engine among the categories, as the client sent it, ``MISSING`` for null. A twin of a model that
reads texts lies in its folder as ``model.onnx`` and ``texts/``: ``texts.json`` says which column each reader reads, and the files of a
reader lie in ``texts/0``, ``texts/1`` and so on. The graph takes the numbers of the table's columns, then those of each reader in that
order, and of the categories those that are no text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from mlops_pipeline.contract.spec import AS_TEXT, Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.faults import CUT_TEXT, Notice
from mlops_pipeline.inference.formats import Engine

FOLDER = "texts"
FILE = "texts.json"
TWIN = "onnx"
"""Where the exact twin lies in a version's folder."""

READERS = {"ngrams": "mlops_pipeline.inference.ngrams:load", "sentences": "mlops_pipeline.inference.sentences:load"}
"""Kinds of readers, and the function ``(folder, threads)`` that loads one. Fixed here: a file never says what it may run."""


class Reader(Protocol):
    """What makes numbers of texts; called from one thread at a time."""

    width: int
    """How many numbers it makes of a text."""

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width), float32. A text's numbers depend on no other's, to the bit."""
        ...


class Read(msgspec.Struct, frozen=True):
    """Which reader reads a column: in ``texts.json``, a list of these."""

    column: str
    reader: str
    width: int


class TextEngine:
    """An engine whose texts are read before it is asked."""

    def __init__(self, inner: Engine, readers: Sequence[tuple[int, Reader]], others: Sequence[int], names: Sequence[str]) -> None:
        """``readers`` with the place of the column that each reads, ``others``, the places of columns that are no text, all ``names``."""
        self.name, self.precision = inner.name, inner.precision
        self._inner, self._readers, self._others, self._names = inner, tuple(readers), list(others), list(names)
        self._tokens = 0

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """As any engine does."""
        assert categories is not None  # noqa: S101  # a text is among them
        parts = [] if numbers is None else [numbers]
        parts += [reader.numbers(categories[:, place].tolist()) for place, reader in self._readers]
        rest = np.ascontiguousarray(categories[:, self._others]) if self._others else None
        return self._inner.predict(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1), rest)

    def notices(self, categories: np.ndarray) -> list[Notice]:
        """What is unusual in texts of rows that were predicted just now: those that a reader has not read to their end."""
        found: dict[str, int] = {}
        for place, reader in self._readers:
            cut = getattr(reader, "cut", None)
            if cut is not None and (count := sum(map(cut.__contains__, map(hash, categories[:, place].tolist())))):
                found[self._names[place]] = count
                self._tokens = cut.tokens
        return [self.cut_notice(name, count) for name, count in found.items()]

    def cut_notice(self, name: str, rows: int) -> Notice:
        """What is said of texts that have not been read to their end."""
        what = f"{self._tokens:,} tokens are read of a text, and no more of {rows:,} row{'' if rows == 1 else 's'}"
        return Notice(CUT_TEXT, name, rows, f"column '{name}': {what}")


def read_list(folder: Path) -> list[Read]:
    """What reads the texts of the twin in a folder, in the order of its numbers; none if it reads no text."""
    try:
        return msgspec.json.decode((folder / FOLDER / FILE).read_bytes(), type=list[Read])
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise PipelineError(f"{folder / FOLDER / FILE}: is no list of readers ({error}): fetch the version anew") from error


class FrozenEncoder:
    """The pretrained encoder that a version reads a column by, without the head on it; loaded when it is first asked.

    ``by`` names it: versions with the same name make the same embeddings.
    """

    def __init__(self, folder: Path, by: str) -> None:
        self.by, self._folder = by, folder
        self._loaded: Any = None

    def embedded(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, size), float32. Raises :class:`PipelineError` without what it is read by."""
        if self._loaded is None:
            from mlops_pipeline.inference import sentences

            self._loaded = sentences.load(self._folder, len(os.sched_getaffinity(0)))
        made: np.ndarray = self._loaded.embedded(texts)
        return made


def frozen_encoders(version: Path) -> dict[str, FrozenEncoder]:
    """The pretrained encoders of a version's folder, by the column that each reads."""
    from mlops_pipeline.inference import sentences

    found: dict[str, FrozenEncoder] = {}
    for place, read in enumerate(read_list(version / TWIN)):
        folder = version / TWIN / FOLDER / str(place)
        if read.reader == "sentences" and read.column not in found and (told := sentences.about(folder)).encoder:
            found[read.column] = FrozenEncoder(folder, f"{told.encoder}-{told.max_tokens}")
    return found


def with_texts(inner: Engine, folder: Path, contract: Contract, threads: int) -> Engine:
    """The engine with what reads the texts of its folder; itself if it reads none. Raises :class:`PipelineError`."""
    listed = read_list(folder)
    if not listed:
        return inner
    columns = [name for name, column in contract.columns.items() if column.kind in AS_TEXT]
    readers = []
    for place, read in enumerate(listed):
        if read.reader not in READERS:
            raise PipelineError(f"{folder / FOLDER}: needs the reader '{read.reader}', unknown here: install a newer mlops-pipeline")
        module, _, name = READERS[read.reader].partition(":")
        load: Callable[[Path, int], Reader] = getattr(import_module(module), name)
        readers.append((columns.index(read.column), load(folder / FOLDER / str(place), threads)))
    return TextEngine(inner, readers, [place for place, name in enumerate(columns) if contract.columns[name].kind != "text"], columns)
