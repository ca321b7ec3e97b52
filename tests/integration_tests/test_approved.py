"""No way around the gate: an alias that somebody sets by hand moves nothing until a named person approves the version."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.events import ChampionChanged, VersionDecided, read_events
from mlops_pipeline.registry.versions import content_digest
from mlops_pipeline.release.opened import Opened, opened
from tests.conftest import Project, copied, wait_for
from tests.integration_tests.clients import get
from tests.integration_tests.conftest import mlflow_client, serving
from tests.integration_tests.faults import promote, served_version

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a champion, and a second version that its gate did not let pass."""
    folder = tmp_path_factory.mktemp("approved") / "project"
    shutil.copytree(registered.folder, folder, symlinks=True)
    project = Project(folder, folder / registered.config.name)
    project.change(train={"params": {"n_estimators": 25}}, gate={"beat_baseline_by": 0.5})
    project.run()
    return project


def models(project: Project, *words: str, check: bool = True) -> Any:
    return project.mlops("models", *words, "--config", str(project.config), check=check)


def said_to_move(of: Opened) -> list[str]:
    """The versions that servers were told are champion now."""
    with closing(sqlite3.connect(of.where)) as raw:
        return [version for (version,) in raw.execute("SELECT version FROM mlops_release_champions ORDER BY number")]


def predicted(project: Project, *words: str) -> Any:
    given = ("predict", "--input", "table.csv", "--output", "out.csv", "--config", str(project.config))
    return project.mlops(*given, *words, check=False)


def test_a_version_is_taken_on_a_persons_word_alone_and_every_word_stays(two: Project, tmp_path: Path) -> None:
    best = two.folder / "models/registry/best_model"
    first = content_digest(best)
    (two.folder / "configs").mkdir(exist_ok=True)
    (two.folder / "configs/serving_config.yaml").write_text(f"pipeline: {two.config}\n")
    of = opened(None, two.folder)
    said = two.mlops("release", "status").stdout
    assert "no release was begun yet" in said
    assert not Path(of.where).exists(), "who only reads makes nothing"
    of.table().close()
    with serving(two, tmp_path) as server:
        promote(two, "2")
        wait_for(lambda: "models approve 2 --reason" in server.log.read_text(), 120, "the line that says how to approve")
        assert served_version(server.url) == "1"
        assert b'mlops_model_load_failures_total{model="champion",reason="gate"} 1.0' in get(f"{server.url}/metrics")[1]
        with serving(two, tmp_path / "fresh", until="/live") as fresh:
            assert get(f"{fresh.url}/ready")[0] == 503
            assert get(f"{fresh.url}/predict")[0] in (405, 503)
            two.run()
            assert content_digest(best) == first, "nor is it published"
            said = predicted(two)
            assert said.returncode == 0
            assert "version 1 predicts; version 2, which MLflow calls champion, did not pass its gate" in " ".join(said.stdout.split())
            assert models(two, "approve", "2", "--reason", " ", check=False).returncode == 2
            told = json.loads(models(two, "approve", "2", "--reason", "seen by eye", "--by", "anna", "--json").stdout)
            assert said_to_move(of) == ["2"], "servers that look at this table hear of it before they look at the registry"
            assert (told["decision"], told["by"], told["reason"], told["champion"]) == ("approved", "anna", "seen by eye", True)
            for url in (server.url, fresh.url):
                wait_for(lambda url=url: get(f"{url}/ready")[0] == 200 and served_version(url) == "2", 120, "version 2")  # type: ignore[misc]
    assert content_digest(best) != first
    assert "is champion: promote another first" in models(two, "reject", "2", "--reason", "too slow", check=False).stderr
    models(two, "promote", "1")
    assert said_to_move(of) == ["2", "1"]
    models(two, "reject", "2", "--reason", "too slow", "--by", "berta")
    assert models(two, "promote", "2", check=False).returncode == 2
    assert said_to_move(of) == ["2", "1"], "a rejection moves nobody"
    models(two, "promote", "2", "--override", "the old one drifts")
    assert said_to_move(of) == ["2", "1", "2"], "a word that makes it champion too is one"
    shown = models(two, "show", "2").stdout
    for words in ("approved by anna", "seen by eye", "rejected by berta", "too slow", "the old one drifts"):
        assert words in shown
    events = [one for one in read_events(two.folder / "data/events.jsonl") if isinstance(one, VersionDecided)]
    assert [(one.decision, one.reason) for one in events] == [
        ("approved", "seen by eye"),
        ("rejected", "too slow"),
        ("approved", "the old one drifts"),
    ]
    tags = mlflow_client(two).get_model_version("small", "2").tags
    assert [json.loads(tags[key])["reason"] for key in sorted(tags) if key.startswith("mlops.decision.")] == [one.reason for one in events]


def test_servers_hear_of_another_champion_at_once_and_it_is_told_once_whatever_made_it(registered: Project, tmp_path: Path) -> None:
    project = copied(registered, tmp_path / "project")
    (project.folder / "configs").mkdir(exist_ok=True)
    server = project.folder / "configs/serving_config.yaml"
    server.write_text(f"pipeline: {project.config}\n")
    of = opened(None, project.folder)
    of.table().close()
    project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
    project.run()
    assert said_to_move(of) == ["2"]
    models(project, "rollback")
    assert said_to_move(of) == ["2", "1"]
    project.run()
    assert said_to_move(of) == ["2", "1"], "who is champion already is no news"
    project.change(train={"params": {"n_estimators": 30}})
    project.run("--to", "evaluate")
    project.mlops("stage", "register", "--config", str(project.config))
    assert said_to_move(of) == ["2", "1", "3"]
    # Settings of a server that cannot be read keep no version from being champion, and that is said.
    server.write_text(f"pipeline: {project.config}\ntls: {{cert: none.pem, key: none.pem}}\n")
    done = models(project, "promote", "2")
    assert done.returncode == 0
    assert "a server was not told of version 2, and hears of it when it looks at the registry itself" in " ".join(done.stdout.split())
    assert said_to_move(of) == ["2", "1", "3"]
    changed = [one for one in read_events(project.folder / "data/events.jsonl") if isinstance(one, ChampionChanged)]
    assert [(one.version, one.former, one.how) for one in changed] == [
        (1, None, "passed the gate"),
        (2, 1, "passed the gate"),
        (1, 2, "rolled back"),
        (3, 1, "passed the gate"),
        (2, 3, "promoted by hand"),
    ]


def test_what_is_said_to_be_typed_means_this_pipeline_though_another_is_the_usual_one(registered: Project, tmp_path: Path) -> None:
    project = copied(registered, tmp_path / "project")
    usual = project.folder / "configs/training_config.yaml"
    usual.parent.mkdir(exist_ok=True)
    usual.write_text(project.config.read_text().replace("name: small", "name: usual"))
    project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 1.0})
    waits = " ".join(project.run("--then", "approval").stdout.split())
    told = [line for line in re.findall(r"`(mlops [^`]+)`", waits) if " models " in line]
    assert told == ["mlops models approve 2 --reason REASON --config pipeline.yaml"]
    said = " ".join(models(project, "show", "2").stdout.split())
    assert f"`{told[0]}`" in said
    page = (project.folder / "models/artifacts/report.html").read_text()
    assert "mlops models reject 2 --reason &#34;why&#34; --config pipeline.yaml" in page.replace("&quot;", "&#34;")
    (project.folder / "elsewhere").mkdir()
    away = f"cd elsewhere && {sys.executable} -m mlops_pipeline models reject 1 --reason no --config {project.config}"
    refused = project.command("bash", "-c", away, check=False).stderr
    assert "or `mlops models rollback --config ../pipeline.yaml`" in refused
    assert "small version 2 is approved by" in project.mlops(*shlex.split(told[0])[1:]).stdout
    known = json.loads(models(project, "list", "--json").stdout)
    assert [(each["version"], each["aliases"], each["passed"], each["waits"]) for each in known["versions"]] == [
        (2, ["champion"], True, False),
        (1, [], True, False),
    ]
    (decision,) = json.loads(models(project, "show", "2", "--json").stdout)["decisions"]
    assert (decision["decision"], decision["reason"]) == ("approved", "REASON")


@pytest.mark.parametrize("name", ["onnx/model.onnx", "MODEL_CARD.md"])
def test_predict_takes_no_file_that_is_not_the_registered_one(two: Project, name: str) -> None:
    file = two.folder / "models/registry/best_model" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b" ")
    done = predicted(two)
    file.write_bytes(whole)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "its files are those of no version of small: `mlops run --config pipeline.yaml` brings the champion's back" in done.stderr


def test_a_folder_of_ones_own_is_proved_by_what_it_is_expected_to_say(two: Project, tmp_path: Path) -> None:
    shutil.copytree(two.folder / "models/registry/best_model", tmp_path / "mine")
    assert predicted(two, "--model", str(tmp_path / "mine")).returncode == 0
    (tmp_path / "mine/onnx/model.onnx").write_bytes(b"no model")
    done = predicted(two, "--model", str(tmp_path / "mine"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
