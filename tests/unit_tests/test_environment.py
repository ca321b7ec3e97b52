"""Usage statistics are off in every Python of the environment, whoever starts it, and the user's own word counts more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlops_pipeline.environment import QUIET

ASK = "import json, os; print(json.dumps(dict(os.environ)))"
MLFLOW = "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
PREFECT = "from prefect.settings import get_current_settings; print(get_current_settings().server.analytics_enabled)"


def said(code: str, **environ: str) -> str:
    """What a Python of this environment prints that was started with nothing set."""
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_python_that_nobody_prepared_has_the_settings_and_keeps_the_users() -> None:
    assert json.loads(said(ASK)).items() >= QUIET.items()
    assert json.loads(said(ASK, DO_NOT_TRACK="false"))["DO_NOT_TRACK"] == "false"


@pytest.mark.parametrize(("code", "answer"), [(MLFLOW, "True"), (PREFECT, "False")], ids=["mlflow", "prefect"])
def test_the_tools_typed_by_hand_take_them(code: str, answer: str) -> None:
    assert said(code) == answer
