"""`mlops demo year` itself, with fewer flights, months and trees: real projects, runs, server, labels, watch and trainings."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from mlops_pipeline.monitoring.watched import watched
from tests.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitoring_loop")]


def test_a_quick_look_at_the_year_goes_all_its_ways(tmp_path: Path) -> None:
    here = Project(tmp_path, tmp_path / "none.yaml")
    words = ("demo", "year", "--quick", "--output", str(tmp_path / "out"), "--folder", str(tmp_path / "kept"))
    said = here.mlops(*words).stdout
    assert "these figures say that it works, and nothing else" in said
    assert (tmp_path / "out/year.png").read_bytes().startswith(b"\x89PNG")
    [(name, story)] = json.loads((tmp_path / "out/year.json").read_text()).items()
    assert (name, story["months"], story["retrainings"]["every month"]) == ("winter", ["April", "May"], 1)
    # The first month is answered by the same champion, over HTTP here and in a batch there.
    never, loop = (story["roc_auc"][arm][0]["value"] for arm in ("never retrained", "the loop"))
    assert loop == pytest.approx(never, abs=1e-6)
    with closing(watched(tmp_path / "kept/winter/configs/monitoring_config.yaml").state()) as state:
        windows, trainings = state.windows(), state.retrainings()
    assert [window.figures["rows"] for window in windows] == [window.figures["labels"] for window in windows]
    assert sum(window.figures["rows"] or 0 for window in windows) == story["rows"]
    assert all(window.figures["probe.gain"] is not None for window in windows)
    asked = [place for place, gain in enumerate(story["probe_gain"]) if gain > 0.01]
    assert len(trainings) == len(asked)
    assert all(training.outcome.startswith("version 2 ") for training in trainings)
