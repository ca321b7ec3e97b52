"""Which of a champion's fits a challenger is compared with, and on which held-out rows: none that this fit has seen."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from mlops_pipeline.contract.spec import Contract, Recipe
from mlops_pipeline.files import sha256_of_file, write_json
from mlops_pipeline.inference.scorer import contract_at
from mlops_pipeline.modelling.against_champion import _doubt, _fair, needs
from mlops_pipeline.modelling.trained_rows import FILE as TRAINED_ROWS
from mlops_pipeline.modelling.trained_rows import write_trained_rows
from tests.conftest import HERE
from tests.model_tests.workbench import model_digest

MODEL = HERE / "models_made_before/stays/model"
NO_FILE = Path("no training rows are asked for")
TEST = pl.DataFrame({"day": [datetime(2024, 3, 1) + timedelta(days=day) for day in range(10)]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version that was fitted again: the judged fit lies beside it."""
    shutil.copytree(MODEL, tmp_path / "version")
    shutil.copytree(MODEL, tmp_path / "version/judged")
    return tmp_path / "version"


def contract(until: str, *, judged: str = "") -> Contract:
    made = contract_at(MODEL / "training.json")
    return msgspec.structs.replace(made, fitted_until=until, judged_sha256=judged, recipe=Recipe(time_column="day"))


@pytest.mark.parametrize(
    ("until", "judged_until", "place", "rows"),
    [
        ("2024-02-29", None, "version", 10),
        ("2024-03-04", None, "version", 6),
        ("2024-03-10", None, None, 0),
        ("", None, "version", 10),  # split at random, or registered before this was known
        ("2024-02-29", "2024-01-31", "version", 10),
        ("2024-03-04", "2024-02-29", "judged", 10),
        ("2024-03-10", "2024-03-02", "judged", 8),
        ("2024-03-10", "2024-03-10", None, 0),
        ("", "", "judged", 10),  # split at random: what is served has seen every row
    ],
)
def test_a_champion_is_compared_on_rows_that_it_has_not_seen(
    until: str, judged_until: str | None, place: str | None, rows: int, folder: Path
) -> None:
    digest = model_digest(folder / "judged") if judged_until is not None else ""
    write_json(folder / "judged/training.json", contract(judged_until or "").as_json())
    found = _fair(folder, contract(until, judged=digest), TEST, NO_FILE)
    if place is None:
        assert found is None
    else:
        assert found is not None
        assert (found[0].name, int(found[1].sum())) == (place, rows)


def test_a_judged_fit_that_is_gone_or_another_one_says_nothing(folder: Path) -> None:
    write_json(folder / "judged/training.json", contract("").as_json())
    assert _fair(folder, contract("", judged="0" * 64), TEST, NO_FILE) is None
    shutil.rmtree(folder / "judged")
    assert _fair(folder, contract("2024-03-04", judged="0" * 64), TEST, NO_FILE) is not None, "newer rows are left"
    assert _fair(folder, contract("", judged="0" * 64), TEST, NO_FILE) is None


def drawn(seed: int, rows: pl.DataFrame, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, Path]:
    """Rows to train on and rows held out, drawn with a seed, and the file of the first."""
    shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
    train, path = shuffled.head(300), folder / f"train {seed}.parquet"
    train.write_parquet(path)
    return train, shuffled.tail(100), path


def test_rows_drawn_otherwise_are_compared_where_the_champion_has_not_seen_them(folder: Path, tmp_path: Path) -> None:
    champion = contract("")
    rows = pl.DataFrame({name: [float(row) for row in range(400)] for name in champion.columns})
    theirs, _, their_file = drawn(1, rows, tmp_path)
    ours, test, our_file = drawn(2, rows, tmp_path)
    write_trained_rows(folder, champion, their_file)
    found = _fair(folder, champion, test, our_file)
    assert found is not None
    first = next(iter(champion.columns))
    assert set(test.filter(found[1])[first]) == set(test[first]) - set(theirs[first])
    assert 0 < found[1].sum() < test.height
    # The champion's own split: all rows. Rows of which both have equals are as fair to one as to the other.
    assert _fair(folder, champion, drawn(1, rows, tmp_path)[1], their_file)[1].all()  # type: ignore[index]
    assert _fair(folder, champion, ours, our_file)[1].all()  # type: ignore[index]
    # Its training rows alone are held out now: nothing can be said.
    assert _fair(folder, champion, theirs.join(ours, on=first, how="anti"), our_file) is None


def test_what_is_kept_of_rows_is_their_hashes_and_only_where_no_moment_tells(folder: Path, tmp_path: Path) -> None:
    champion = contract("")
    rows = pl.DataFrame({name: [1.0, 1.0, 2.0] for name in champion.columns})
    rows.write_parquet(tmp_path / "rows.parquet")
    write_trained_rows(folder, contract("2024-03-04"), tmp_path / "rows.parquet")
    assert not (folder / TRAINED_ROWS).exists()
    hidden = {name: msgspec.structs.replace(column, private=True) for name, column in champion.columns.items()}
    write_trained_rows(folder, msgspec.structs.replace(champion, columns=hidden), tmp_path / "rows.parquet")
    assert not (folder / TRAINED_ROWS).exists(), "a private value could be guessed by its hash"
    write_trained_rows(folder, champion, tmp_path / "rows.parquet")
    kept = np.load(folder / TRAINED_ROWS)
    assert (kept.dtype, len(kept)) == (np.uint64, 2)


def test_where_nothing_tells_what_a_champion_has_seen_that_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"our training rows")
    write_json(folder / "training.json", contract("").as_json())
    assert "may have been fitted on some of these rows" in _doubt(folder, TEST, tmp_path / "train.parquet")
    same = msgspec.structs.replace(contract(""), train_sha256=sha256_of_file(tmp_path / "train.parquet"))
    write_json(folder / "training.json", same.as_json())
    assert _doubt(folder, TEST, tmp_path / "train.parquet") == ""
    write_json(folder / "training.json", contract("2024-02-29").as_json())
    assert _doubt(folder, TEST, tmp_path / "train.parquet") == ""


def test_that_a_champion_may_know_other_rows_of_the_same_things_is_said(folder: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.parquet"
    train.write_bytes(b"our training rows")
    write_json(folder / "training.json", contract("2024-02-29").as_json())
    assert _doubt(folder, TEST, train, ("patient",)) == "it may have been fitted on other rows of the same 'patient'"
    same = msgspec.structs.replace(contract("2024-02-29"), train_sha256=sha256_of_file(train))
    write_json(folder / "training.json", same.as_json())
    assert _doubt(folder, TEST, train, ("patient",)) == "", "both were fitted on the same side"


@pytest.mark.parametrize(
    ("estimator", "params", "wanted"),
    [
        ("torch_tabm", {"members": 16}, {"torch"}),
        ("transformer", {}, {"torch"}),
        ("lightgbm", {}, set()),
        ("somebodys", {}, set()),
        ("blend", {"members": [{"estimator": "lightgbm"}, {"estimator": "torch_mlp"}]}, {"torch"}),
    ],
)
def test_a_network_is_known_by_what_its_fit_needs(estimator: str, params: dict[str, Any], wanted: set[str]) -> None:
    assert needs(msgspec.structs.replace(contract(""), estimator=estimator, params=params)) == wanted
