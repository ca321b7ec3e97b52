"""Which of a champion's fits a challenger is compared with, and on which held-out rows: none that this fit has seen."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest

from mlops_pipeline.contract.spec import Contract, Recipe
from mlops_pipeline.files import write_json
from mlops_pipeline.inference.scorer import contract_at
from mlops_pipeline.modelling.against_champion import _fair
from tests.conftest import HERE
from tests.model_tests.workbench import model_digest

MODEL = HERE / "models_made_before/stays/model"
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
    found = _fair(folder, contract(until, judged=digest), TEST)
    if place is None:
        assert found is None
    else:
        assert found is not None
        assert (found[0].name, int(found[1].sum())) == (place, rows)


def test_a_judged_fit_that_is_gone_or_another_one_says_nothing(folder: Path) -> None:
    write_json(folder / "judged/training.json", contract("").as_json())
    assert _fair(folder, contract("", judged="0" * 64), TEST) is None
    shutil.rmtree(folder / "judged")
    assert _fair(folder, contract("2024-03-04", judged="0" * 64), TEST) is not None, "newer rows are left"
    assert _fair(folder, contract("", judged="0" * 64), TEST) is None
