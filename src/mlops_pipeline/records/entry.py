"""What is recorded of one answered request, and how its arrays are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

Arm = Literal["", "champion", "challenger", "shadow", "fallback"]
"""Who gave a recorded answer: nobody in particular, since there was no release; one of its two; the challenger behind the answer, of which
nobody was told; or the champion for a challenger that failed."""
CHALLENGER: Arm = "challenger"
SHADOW: Arm = "shadow"
"""An entry of this arm is no answer that was given."""
WITHDRAWN = "deadline (its prediction was on record already)"
"""The error of an entry that takes another's place: of the same request, time, model and version, which had gone to the writer when its
answer became another refusal. Whoever reads the record sees only the later one."""


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """One per loaded model: the columns of an entry's arrays, and what of them may be kept."""

    key: str
    """Content digest of the model: 64 hexadecimal digits."""
    task: str
    """binary, multiclass or regression."""
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    private: frozenset[str]
    """Columns that are never recorded, in whatever form."""
    classes: tuple[Any, ...]
    """Class labels (str, int or bool) in the order of the outputs; empty for regression."""
    raw: tuple[tuple[str, str], ...] = ()
    """Name and kind of each column that a raw row holds, in the order in which it is recorded; none where rows are not taken so."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One answered request. Out of the garbage collector's sight: it is made at every request, and holds no cycle."""

    request_id: str
    """The client's, or ours."""
    time: float
    """Arrival, in seconds since 1970 (UTC)."""
    latency_us: int
    model: str
    """The name in the address, such as ``champion``."""
    version: str
    """The number in the registry; empty if unknown."""
    layout: RecordLayout | None
    """None only where the request failed before a model was chosen."""
    rows: int
    numbers: np.ndarray | None = None
    """float32, shape (rows, len(layout.numbers)), as the model saw them; NaN is null."""
    categories: np.ndarray | None = None
    """str objects, shape (rows, len(layout.categories)); ``(missing)`` is null."""
    outputs: np.ndarray | None = None
    """float32: class probabilities, shape (rows, classes), of the positive (last) class alone, or values, shape (rows,)."""
    ids: list[str] | None = None
    """The client's own row ids, for joining labels that come late."""
    error: str = ""
    """Why the request was refused; never holds a value of a column."""
    key_name: str = ""
    """The name of the API key that it came with, never the key; empty without one."""
    raw_numbers: np.ndarray | None = None
    """Of raw rows: float64, a column for each of ``layout.raw`` that is a number; NaN is null. None where finished features came."""
    raw_texts: np.ndarray | None = None
    """The same of the other ones: str objects; ``(missing)`` is null."""
    arm: Arm = ""
    """Who answered where a release was under way."""
    why: str = ""
    """Why that arm, in short words, where it is no matter of course; never holds a value of a column."""
    unit: str = ""
    """A keyed hash of what sticks to the arm, such as a user; empty where nothing does."""
