"""A model format whose engine does what a file beside it says: `ok`, `throw`, `nan`, `sleep SECONDS`, `slow SECONDS`,
`wait` (until the file says something else), `flip` or `flip KIND` (of rows whose first category is that).

A project names this file under ``plugins``, and its challenger is saved in it.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.modelling.formats.skops import TRUSTED_TYPES, SkopsEngine
from mlops_pipeline.plugins import model_format

BEHAVIOUR = Path(__file__).with_name("behaviour")


def told() -> tuple[str, str]:
    """The file's word, and what stands behind it."""
    word, _, more = (BEHAVIOUR.read_text() if BEHAVIOUR.exists() else "ok").strip().partition(" ")
    return word, more


def save(folder: Path, fitted: Any, contract: Contract) -> None:
    """As skops does."""
    import skops.io

    skops.io.dump(fitted, folder / "fitted.skops")


@model_format("faulty", save=save, requirements=("skops",))
class Faulty:
    """A model that can be told to fail."""

    name = "faulty"

    def __init__(self, folder: Path, contract: Contract, threads: int) -> None:  # noqa: ARG002  # as every format is loaded
        import skops.io

        self._engine = SkopsEngine(skops.io.load(folder / "fitted.skops", trusted=list(TRUSTED_TYPES)), contract)
        self.precision = self._engine.precision

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, (rows, classes), or values, (rows,)."""
        word, more = told()
        while word == "wait":
            time.sleep(0.02)
            word, more = told()
        if word == "throw":
            raise ZeroDivisionError("it was told to")
        if word in ("sleep", "slow"):
            time.sleep(float(more))
        outputs = self._engine.predict(numbers, categories)
        if word == "flip":
            mine = np.ones(len(outputs), dtype=bool) if categories is None or not more else categories[:, 0] == more
            return np.where(mine[:, None], outputs[:, ::-1], outputs)
        return np.full_like(outputs, np.nan) if word == "nan" else outputs
