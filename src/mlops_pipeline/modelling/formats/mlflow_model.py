"""A registered version whose format MLflow does not know, as MLflow loads it: named in its ``MLmodel``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.inference.scorer import Scorer, load_scorer

if TYPE_CHECKING:
    import pandas as pd


class _Model:
    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002  # MLflow's signature
        """Class probabilities, (rows, classes), or values, (rows,)."""
        import polars as pl

        return self._scorer.predict(pl.from_pandas(model_input))


def _load_pyfunc(path: str) -> _Model:
    """What MLflow calls. A format that no installed distribution brings is named in one line."""
    return _Model(load_scorer(Path(path)))
