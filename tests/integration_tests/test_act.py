"""The workflow of GitHub Actions, run: its training job goes green in a fresh clone of HEAD, and leaves the model and the metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import BIN, REPOSITORY, lacking
from tests.integration_tests.conftest import FOR_A_CLONE


@pytest.mark.slow
@pytest.mark.xdist_group("fresh-clone")
def test_the_training_job_goes_green_in_a_fresh_clone(tmp_path: Path) -> None:
    """What is not committed takes no part. The job's own tests are narrowed to a file here; `make act` runs them all."""
    if not (BIN / "act").exists():
        lacking("act", "make setup-dev")
    results = tmp_path / "results"
    done = subprocess.run(
        [REPOSITORY / "cicd/act/run", results],
        env={**os.environ, "ACT_TESTS": "tests/unit_tests/test_gate.py", "TMPDIR": str(tmp_path), **FOR_A_CLONE},
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

    steps = yaml.safe_load((REPOSITORY / ".github/workflows/train-model.yaml").read_text())["jobs"]["train"]["steps"]
    log = (results / "act.log").read_text()
    for step in steps:
        assert f"Success - Main {step.get('name', step.get('uses'))} [" in log
    assert "Job succeeded" in log
    assert "test_gate.py" in log

    model = results / "artifacts/model"
    assert {path.name for path in model.iterdir()} == {
        "evaluation",
        "metrics.json",
        "model",
        "registration.json",
        "report.html",
        "training.json",
    }
    assert (model / "model/MLmodel").is_file()
    metrics = json.loads((model / "metrics.json").read_text())
    summary = (results / "summary.md").read_text()
    assert re.search(r"^### Metrics beside those of [0-9a-f]{7,}$", summary, re.MULTILINE)
    shown = dict(re.findall(r"^\| (\w+) +\| [\d.]+ +\| ([\d.]+) +\| -?[\d.e-]+ +\|$", summary, re.MULTILINE))
    assert {name: float(value) for name, value in shown.items()} == pytest.approx(metrics, abs=1e-5)
    assert not list(tmp_path.glob("tmp.*")), "the clone is left behind"
    shutil.rmtree(results)
