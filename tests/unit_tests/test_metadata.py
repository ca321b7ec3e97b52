"""``metadata.json`` tells what the project is: it follows its schema, and what it says is what the other files say."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from mlops_pipeline.config.dataset import Task
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.pipeline.render import rendered
from tests.conftest import BIN, REPOSITORY, make_project

SCHEMA = REPOSITORY / "configs/metadata.schema.json"


@pytest.fixture
def said() -> dict[str, Any]:
    return dict(json.loads((REPOSITORY / "metadata.json").read_text(encoding="utf-8")))


def refused_by_schema(content: dict[str, Any], folder: Path) -> bool:
    file = folder / "metadata.json"
    file.write_text(json.dumps(content))
    words = [str(BIN / "check-jsonschema"), "--schemafile", str(SCHEMA), str(file)]
    return subprocess.run(words, capture_output=True, check=False).returncode != 0


def test_it_follows_its_schema_which_refuses_what_is_missing_or_strange(said: dict[str, Any], tmp_path: Path) -> None:
    assert (REPOSITORY / said["$schema"]) == SCHEMA
    assert not refused_by_schema(said, tmp_path)
    for key in set(said) - {"$schema"}:
        assert refused_by_schema({each: value for each, value in said.items() if each != key}, tmp_path), key
    assert refused_by_schema({**said, "stages": []}, tmp_path)
    assert refused_by_schema({**said, "tested_with": {**said["tested_with"], "packages": {"dvc": "3"}}}, tmp_path)


def test_it_says_what_pyproject_the_stages_and_the_lock_say(said: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for key in ("name", "version", "description", "license"):
        assert said[key] == project[key]
    assert said["requires_python"] == project["requires-python"]
    assert [stage["name"] for stage in said["pipeline"]["stages"]] == [stage.name for stage in STAGES]
    assert said["tasks"]["learning"] == list(get_args(Task))
    lock = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)(?= \\)", (REPOSITORY / "requirements-dev.txt").read_text(), re.MULTILINE))
    packages = said["tested_with"]["packages"]
    assert {"mlflow", "prefect", "dvc", "evidently", "polars", "pytest", "ruff", "kubernetes", "nbclient"} <= set(packages)
    assert {name: lock[name] for name in packages if name in lock} == {name: packages[name][0] for name in packages if name in lock}
    assert packages["numpy"] == re.findall(r"^numpy==(\S+)", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)


def test_every_stage_reads_what_an_earlier_one_wrote(said: dict[str, Any]) -> None:
    written: set[str] = set()
    for stage in said["pipeline"]["stages"]:
        assert set(stage["reads"]) <= written
        written |= set(stage["writes"])
    assert "models/artifacts/metrics.json" in written


def test_the_pythons_it_was_tested_with_are_among_those_that_are_allowed(said: dict[str, Any]) -> None:
    low, high = (tuple(map(int, each.split("."))) for each in re.findall(r"3\.\d+", said["requires_python"]))
    assert all(low <= tuple(map(int, each.split("."))) < high for each in said["tested_with"]["python"])


def test_the_commands_it_names_are_there(said: dict[str, Any]) -> None:
    listed = subprocess.run([str(BIN / "mlops"), "--help"], capture_output=True, text=True, check=True).stdout
    targets = (REPOSITORY / "Makefile").read_text()
    for command in said["tasks"]["operations"].values():
        program, word, *rest = command.split()
        if program == "mlops":
            known = listed if not rest or rest[0].startswith("-") else help_of(word)
            assert re.search(rf"\b{rest[0] if known is not listed else word}\b", known), command
        elif program == "make":
            assert re.search(rf"^{word}:", targets, re.MULTILINE), command
        elif program == "python":
            assert (REPOSITORY / word).is_file(), command
        else:
            assert (BIN / program).is_file(), command


def help_of(command: str) -> str:
    return subprocess.run([str(BIN / "mlops"), command, "--help"], capture_output=True, text=True, check=True).stdout


def test_render_keeps_what_people_wrote_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    folder = project.folder
    settings = load_settings(project.config)
    layout = layout_of(settings, project.config, folder)
    file, about = folder / "metadata.json", folder / "pyproject.toml"
    about.write_text('[project]\nname = "ours"\nversion = "2.0"\ndependencies = ["polars>=1"]\n')
    file.write_text('{"data": {"name": "small"}, "version": "1.0", "tested_with": {"python": ["3.11"]}}')
    (folder / "requirements.txt").write_text("polars==1.2.3 \\\n    --hash=sha256:00\nother==1\n")
    assert [each.path for each in rendered(settings, layout)] == [layout.dvc_file, folder / "mlops.lock", file]
    (made,) = rendered(settings, layout, "metadata")
    told = json.loads(made.text)
    assert (told["data"], told["version"], told["pipeline"]["name"]) == ({"name": "small"}, "2.0", settings.name)
    assert told["tested_with"] == {"python": ["3.11"], "packages": {"polars": ["1.2.3"]}}
    made.write()
    assert rendered(settings, layout, "metadata")[0].is_current()

    (folder / "configs").mkdir()
    other = layout_of(settings, folder / "configs/other.yaml", folder)
    assert [each.path for each in rendered(settings, other)] == [other.dvc_file, folder / "mlops.lock"]
    with pytest.raises(
        PipelineError, match=r"metadata.json: pipeline.configuration = \S+: tells of another pipeline than configs/other.yaml"
    ):
        rendered(settings, other, "metadata")

    for path, content, words in (
        (about, "[project]\nname = 'ours'\n", "pyproject.toml: project.version is missing"),
        (about, "project", "pyproject.toml: is no TOML"),
        (file, "[1]", "metadata.json: has to be an object"),
        (file, "{", "metadata.json: is no JSON"),
        (file, None, "metadata.json: cannot be read"),
    ):
        before = path.read_text()
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(PipelineError, match=words) as caught:
            rendered(settings, layout, "metadata")
        assert "\n" not in str(caught.value)
        path.write_text(before)
