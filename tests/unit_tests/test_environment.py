"""Usage statistics are off in every Python of the environment, whoever starts it, and the user's own word counts more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_pipeline.environment import QUIET, SAFE, SPARING
from tests.conftest import REPOSITORY

ASK = "import json, os; print(json.dumps(dict(os.environ)))"
MLFLOW = "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
PREFECT = "from prefect.settings import get_current_settings; print(get_current_settings().server.analytics_enabled)"


def said(code: str, **environ: str) -> str:
    """What a Python of this environment prints that was started with nothing set."""
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_python_that_nobody_prepared_has_the_settings_and_keeps_the_users() -> None:
    assert json.loads(said(ASK)).items() >= {**QUIET, **SAFE, **SPARING}.items()
    assert json.loads(said(ASK, DO_NOT_TRACK="false"))["DO_NOT_TRACK"] == "false"


def test_an_environment_that_has_lost_the_package_starts_without_a_word(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    (site,) = tmp_path.glob("lib/python*/site-packages")
    shutil.copy(REPOSITORY / "src/mlops_pipeline/environment.pth", site / "mlops_pipeline.pth")
    done = subprocess.run([str(tmp_path / "bin/python"), "-c", "print('here')"], env={}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("here\n", "")


TRUSTED = """
import sys, numpy, scipy.special, skops.io
from skops.io import _trusted_types, _utils
print('torch' in sys.modules, [name for name, module in sys.modules.items() if module is None])
kept = _trusted_types.SCIPY_UFUNC_TYPE_NAMES, _trusted_types.NUMPY_UFUNC_TYPE_NAMES
print(kept == tuple(_utils.get_public_type_names(module=module, oftype=numpy.ufunc) for module in (scipy.special, numpy)), *map(len, kept))
"""


def test_a_process_that_reads_models_imports_no_pytorch_and_trusts_what_skops_does(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("Tensor = type('Tensor', (), {})\n")
    first, trusted = said(TRUSTED, PYTHONPATH=f"{REPOSITORY / 'src'}:{tmp_path}").splitlines()
    assert first == "False []"
    same, of_scipy, of_numpy = trusted.split()
    assert same == "True", "as skops itself finds them, without the shorter way"
    assert int(of_scipy) > 100, "there is something to find"
    assert int(of_numpy) > 50, "there is something to find"


@pytest.mark.parametrize(("code", "answer"), [(MLFLOW, "True"), (PREFECT, "False")], ids=["mlflow", "prefect"])
def test_the_tools_typed_by_hand_take_them(code: str, answer: str) -> None:
    assert said(code) == answer
