"""Which rows a version was fitted on, where no moment tells: a hash of each row lies beside the model, no value of it.

A server has no use for the file: it is neither fetched by one nor part of the version's digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.modelling.frame import model_input

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from mlops_pipeline.contract.spec import Contract

FILE = "trained_rows.npy"
MOST_ROWS = 1_000_000
"""More rows are not written down: the file would be larger than most models (8 bytes a row)."""


def write_trained_rows(folder: Path, contract: Contract, train: Path) -> None:
    """Write the hashes of the rows of a Parquet file into a version's folder: uint64 (rows,), sorted, each once.

    Nothing is written where the newest moment tells the rows apart, or there are too many.
    """
    import polars as pl

    if contract.fitted_until or contract.train_rows > MOST_ROWS:
        return
    found = _hashes(contract, pl.read_parquet(train, glob=False))
    if found is not None:
        np.save(folder / FILE, np.unique(found))


def seen_alone(folder: Path, contract: Contract, test: pl.DataFrame, train: Path) -> np.ndarray | None:
    """Which held-out rows the version in a folder was fitted on, and the model that is fitted on ``train`` was not: bool (rows,).

    A row that both have an equal of is as fair to one as to the other. None if the version has no file of its rows.
    """
    import polars as pl

    if not (folder / FILE).is_file():
        return None
    theirs, held_out, ours = np.load(folder / FILE), _hashes(contract, test), _hashes(contract, pl.read_parquet(train, glob=False))
    if held_out is None or ours is None:
        return None
    seen: np.ndarray = np.isin(held_out, theirs) & ~np.isin(held_out, ours)
    return seen


def _hashes(contract: Contract, table: pl.DataFrame) -> np.ndarray | None:
    """64 bits of each row of the model's columns, but for private ones, whose values could be guessed; None if all are."""
    import pandas as pd

    columns = {name: column for name, column in contract.columns.items() if not column.private}
    if not columns:
        return None
    hashes: np.ndarray = pd.util.hash_pandas_object(model_input(table, columns), index=False).to_numpy()
    return hashes
