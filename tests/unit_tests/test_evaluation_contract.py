"""An evaluation is one type for who writes and who reads it; files of before it was one are read too."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from mlops_pipeline.contract.evaluation import FILE, FORMAT, Bin, Evaluation, Importance, Interval, Slice, TwinReport, evaluation_of
from mlops_pipeline.contract.spec import Unreadable
from mlops_pipeline.files import write_json
from tests.conftest import REPOSITORY

BEFORE = sorted((REPOSITORY / "tests/models_made_before").rglob(FILE))


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    whole = Evaluation(
        format=FORMAT,
        metric="roc_auc",
        metrics={"roc_auc": Interval(0.9, 0.8, 1.0), "f1": Interval()},
        baseline={"roc_auc": 0.5, "f1": None},
        calibration=[Bin(0.1, 0.2, 15)],
        worst_slice=Slice("{city}", "Köln", 14, 0.8, None, 1.0),
        importance=[Importance("score", 0.3, 0.01)],
        onnx=TwinReport(True, 1e-7, "agrees"),
        twins={"text": TwinReport()},
    )
    write_json(tmp_path / FILE, whole.as_json())
    assert evaluation_of((tmp_path / FILE).read_bytes()) == whole


@pytest.mark.parametrize("path", BEFORE, ids=lambda path: path.parts[-3])
def test_a_file_of_before_is_read_and_loses_nothing(path: Path) -> None:
    then = json.loads(path.read_text())
    now = evaluation_of(path.read_bytes())
    assert now.format == 0
    assert then.keys() <= now.as_json().keys()
    assert now.metrics[now.metric].value == then["metrics"][then["metric"]]["value"]
    assert now["worst_slice"]["metric"] == now.get("worst_slice")["metric"] == then["worst_slice"]["metric"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"format": 99}', "newer than 1"),
        (b"[]", "is no evaluation"),
        (b'{"test_rows": "x"}', "is no evaluation .*: restore the file, or train again$"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said) as caught:
        evaluation_of(content)
    assert "\n" not in str(caught.value)


def test_the_files_of_before_are_there() -> None:
    assert BEFORE
    assert msgspec.json.decode(BEFORE[0].read_bytes())["metric"]
