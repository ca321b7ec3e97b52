"""Whether a loaded model says what it said where it was registered: on a few rows whose outputs travel with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np

from mlops_pipeline.contract.task import TASKS
from mlops_pipeline.errors import one_line
from mlops_pipeline.inference.engine import NotFinite, score
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.formats import Engine
from mlops_pipeline.inference.signature import ANY_LENGTH, Signature

FILE = "expected.json"

TOLERANCE = 1e-4
"""Largest difference from an expected probability, or share of an expected value."""


class Unproven(Exception):
    """The model is not what was registered; one line without the file's name. ``reason`` is a word for metrics."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


class Expected(msgspec.Struct, frozen=True):
    """A version's ``expected.json``: a few rows, and what the model said of them where it was registered."""

    rows: list[dict[str, Any]]
    outputs: list[Any]


def prove(signature: Signature, engine: Engine, expected: Expected, warm: tuple[int, ...] = (), calls: int = 1) -> None:
    """Compare outputs on the expected rows, by the path that requests take; before it, call the engine with ``warm`` rows.

    Raises :class:`Unproven`.
    """
    # The rows may be more than one request's, and hold what the server's policy refuses: neither says anything of the model.
    lenient = dataclasses.replace(signature, reject_unseen=False, max_rows=max(len(expected.rows), *warm, 1), lengths=ANY_LENGTH)
    try:
        for count in warm:
            some = [expected.rows[k % len(expected.rows)] for k in range(count)]
            for _ in range(calls):
                rows = lenient.from_records(some)
                score(engine, rows.numbers, rows.categories)
        rows = lenient.from_records(expected.rows)
        said = np.asarray(score(engine, rows.numbers, rows.categories), dtype=np.float64)
    except Refused as refusal:
        raise Unproven(
            "outputs", f"its rows do not fit training.json ({refusal.place(signature.columns)}): register the version anew"
        ) from refusal
    except NotFinite as error:
        raise Unproven("outputs", f"{error}: promote another version") from error
    except Exception as error:
        raise Unproven("outputs", f"the model fails on its own rows ({one_line(error)}): promote another version") from error
    try:
        wanted = np.array(expected.outputs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Unproven("unreadable", f"its outputs are no numbers ({one_line(error)}): register the version anew") from error
    shape = (len(expected.rows), *TASKS[signature.task].width(signature.classes))
    if said.shape != shape or wanted.shape != shape:
        remedy = "register the version anew" if said.shape == shape else "promote another version"
        raise Unproven("outputs", f"outputs of shape {wanted.shape} are stored, {said.shape} are predicted, {shape} are due: {remedy}")
    off = np.abs(said - wanted)
    near = getattr(engine, "tolerance", TOLERANCE)
    allowed = near if signature.has_classes else near * np.maximum(np.abs(wanted), np.abs(wanted).max() / 100)
    if not (off <= allowed).all():
        raise Unproven("outputs", f"the model's outputs differ from the stored ones by up to {off.max():g}: promote another version")
