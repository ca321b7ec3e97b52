"""Programs are forked whatever a test process has imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import forking, process_environment, python


def test_what_libraries_set_as_they_are_imported_has_nothing_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a run imports is imported there; a test process that imports the same later is served as before."""
    here = process_environment()
    there = json.loads(python(tmp_path, "import json, os; print(json.dumps(dict(os.environ)))").stdout)
    assert "SPARK_LOCAL_IP" in there
    for name in there.keys() - here.keys():
        monkeypatch.setenv(name, there[name])
    assert process_environment() == here
    assert forking().serves(here)
