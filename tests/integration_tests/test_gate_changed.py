"""A gate that changes after a promotion: the run says what today's gate finds, and the champion stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Project, copied
from tests.integration_tests.test_killed import registered as versions_of


@pytest.mark.slow
def test_a_gate_tightened_after_the_promotion_judges_the_champion_and_does_not_dethrone_it(registered: Project, tmp_path: Path) -> None:
    project = copied(registered, tmp_path / "project")
    project.change(gate={"beat_baseline_by": 0.5})
    said = project.run().stdout
    assert "✗ baseline: roc_auc better than the dummy baseline by more than 0.5 (95 % lower bound): " in said
    assert "small version 1: stays champion, but does not pass today's gate" in said
    assert versions_of(project) == [("1", ["champion"])]
    recorded = json.loads((project.folder / "models/artifacts/registration.json").read_text())
    assert not recorded["passed"]
    assert [rule["name"] for rule in recorded["rules"] if not rule["passed"]] == ["baseline"]
    assert "✗ baseline: " in project.mlops("models", "show", "--config", str(project.config)).stdout
    assert project.run().stdout.count("up to date") == 6
    project.change(gate={"beat_baseline_by": 0.0})
    assert "small version 1: champion" in project.run().stdout
    assert versions_of(project) == [("1", ["champion"])]
