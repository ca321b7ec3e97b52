"""Killed at any moment and run again, the pipeline ends as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from mlops_pipeline.events import ChampionChanged, read_events
from mlops_pipeline.registry.versions import content_digest
from tests.conftest import Project, copied, forking, made_once, make_project, process_environment, put_empty_store, trained
from tests.integration_tests.conftest import mlflow_client

pytestmark = pytest.mark.slow

KILLER = """
import importlib, os, signal, sys
place = importlib.import_module('{module}')
original = place.{owner}{name}
count = [0]
def killed(*arguments, **named):
    count[0] += 1
    if {before} and count[0] == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **named)
    if not {before} and count[0] == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(place{owner_path}, "{name}", killed)
from mlops_pipeline.cli import main
main(["run", "--config", *sys.argv[1:]])
"""
"""Runs the pipeline in a process that kills itself just before or just after a call of one of its own functions."""


PLAINLY = "import sys; from mlops_pipeline.cli import main; main(['run', '--config', *sys.argv[1:]])"


def run(project: Project, text: str = PLAINLY, *more: str, code: int = 0) -> str:
    """What a run of the pipeline says that ends with a code."""
    done = forking().run(project.folder, text=text, arguments=[str(project.config), *more])
    assert done is not None
    said = done.stdout + done.stderr
    assert done.returncode == code, f"ended with {done.returncode}\n{text}\n{said}"
    return said


def killed_run(project: Project, module: str, name: str, *more: str, owner: str = "", call: int = 1, before: bool) -> None:
    script = KILLER.format(
        module=module if module.startswith("dvc.") else f"mlops_pipeline.{module}",
        name=name,
        owner=f"{owner}." if owner else "",
        owner_path=f".{owner}" if owner else "",
        call=call,
        before=before,
    )
    run(project, script, *more, code=-signal.SIGKILL)


def outcome(project: Project) -> dict[str, str]:
    """The digest of every stage's output, from dvc.lock, and of the published model."""
    stages = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    found["best_model"] = content_digest(project.folder / "models/registry/best_model")
    return found


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What the fixture ``registered`` is elsewhere: here a function is called so."""
    return made_once(tmp_path_factory, "registered", trained)


@pytest.fixture(scope="module")
def undisturbed(champion: Project) -> dict[str, str]:
    return outcome(champion)


def test_two_fresh_folders_give_the_same_digests(project: Project, undisturbed: dict[str, str]) -> None:
    project.fresh("run", "--config", str(project.config))
    assert outcome(project) == undisturbed


MOMENTS = [
    ("pipeline.stages.validate", "write_schema", "", 1, False),
    ("pipeline.stages.split", "write_json", "", 1, True),
    ("pipeline.stages.train", "write_version", "", 1, False),
    ("pipeline.stages.train", "write_json", "", 1, False),
    ("registry.runs", "record_training", "Tracking", 1, False),
    ("pipeline.stages.evaluate", "write_json", "", 1, False),
    ("registry.runs", "record_evaluation", "Tracking", 1, True),
    ("registry.runs", "record_evaluation", "Tracking", 1, False),
    ("pipeline.cache", "commit", "Cache", 1, True),
    ("pipeline.cache", "commit", "Cache", 4, True),
    ("pipeline.cache", "commit", "Cache", 5, False),
    ("registry.champion", "add", "RegistryWriter", 1, True),
    ("registry.champion", "add", "RegistryWriter", 1, False),
    ("registry.champion", "make_champion", "RegistryWriter", 1, True),
    ("registry.champion", "_tidy", "RegistryWriter", 1, True),  # the alias is moved, and nobody told
    ("registry.champion", "make_champion", "RegistryWriter", 1, False),
    ("registry.champion", "publish", "RegistryWriter", 1, True),
    ("registry.champion", "publish", "RegistryWriter", 1, False),
    ("registry.download", "swap", "", 2, True),  # the copy that is to be best_model is made, and not in its place
    ("pipeline.cache", "commit", "Cache", 6, True),
    ("dvc.utils.serialize._yaml", "_dump", "", 1, True),
    ("dvc.utils.serialize._yaml", "_dump", "", 2, True),
    ("dvc.rwlock", "dump", "json", 1, True),
]
"""Where the process dies: in every stage, between its writes, around every step of registration, while DVC writes its files."""


def judged(folder: Path) -> Project:
    """A project whose pipeline has run up to the registration."""
    project = make_project(folder)
    project.with_empty_store()
    project.run("--to", "evaluate")
    return project


@pytest.mark.parametrize(("module", "name", "owner", "call", "before"), MOMENTS)
def test_a_kill_anywhere_leaves_nothing_that_the_next_run_does_not_mend(
    project: Project,
    undisturbed: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    module: str,
    name: str,
    owner: str,
    call: int,
    before: bool,
) -> None:
    if module in ("registry.champion", "registry.download"):  # what was made before is kept by then: another run may have made it
        project = copied(made_once(tmp_path_factory, "judged", judged), tmp_path / "judged")
    elif (module, name) != MOMENTS[0][:2]:  # once is enough for what MLflow makes before its first use
        put_empty_store(project.folder / "mlflow/mlflow.db", str(project.folder / "mlruns"))
    killed_run(project, module, name, owner=owner, call=call, before=before)
    run(project)
    assert outcome(project) == undisturbed
    assert {path.name for path in (project.folder / "models/registry").iterdir()} <= {"best_model", "MODEL_CARD.md", ".lock", ".gitkeep"}
    assert registered(project) == [("1", ["champion"])]
    assert project.run().stdout.count("up to date") == 6


def registered(project: Project) -> list[tuple[str, list[str]]]:
    """Versions and their aliases, as MLflow's own client sees them, which is none of the processes that wrote them."""
    client = mlflow_client(project)
    versions = [client.get_model_version("small", found.version) for found in client.search_model_versions("name='small'")]
    return [(str(version.version), list(version.aliases)) for version in versions]


def test_a_kill_while_a_challenger_replaces_a_champion_leaves_exactly_one(champion: Project, tmp_path: Path) -> None:
    project = copied(champion, tmp_path / "project")
    project.change(train={"params": {"n_estimators": 25}}, gate={"champion_margin": 0.5})
    for step, before in (("make_champion", True), ("_tidy", True), ("make_champion", False)):
        killed_run(project, "registry.champion", step, "--from", "register", owner="RegistryWriter", before=before)
        assert sum(aliases.count("champion") for _, aliases in registered(project)) == 1
        assert Path(project.folder / "models/registry/best_model/MLmodel").is_file()
        run(project)
        assert [aliases for number, aliases in sorted(registered(project)) if number == "2"] == [["champion"]]
        *_, (version, former) = champions_told(project)
        assert (version, former) == (2, 1), "the alias was moved and nobody told, so the next run does"
        run(project)
        assert champions_told(project)[-2:-1] != [(2, 1)], "and tells it once"
        project.mlops("models", "promote", "1", "--config", str(project.config))


def champions_told(project: Project) -> list[tuple[int, int | None]]:
    """Each change of the champion that is told of: the version and the one before."""
    found = read_events(project.folder / "data/events.jsonl")
    return [(event.version, event.former) for event in found if isinstance(event, ChampionChanged)]


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.6, 2.8])
def test_a_kill_by_the_clock_is_mended_too(project: Project, undisturbed: dict[str, str], tmp_path: Path, seconds: float) -> None:
    """Of a run that has its libraries already, so that the clock meets what it does and not what it imports."""
    if seconds > 0.4:
        project.with_empty_store()
    begun = forking().begin(
        project.folder, tmp_path / "killed.log", text=PLAINLY, arguments=[str(project.config)], environ=process_environment()
    )
    with suppress(subprocess.TimeoutExpired):
        begun.wait(seconds)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    run(project)
    assert outcome(project) == undisturbed
