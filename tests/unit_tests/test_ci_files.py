"""The files of GitHub Actions and Jenkins: the copies are equal, the schemas hold, and the faults that neither would tell are caught."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.environment import QUIET
from tests.conftest import REPOSITORY, process_environment

ACTIONS = REPOSITORY / "cicd/github_actions"
READ_BY_GITHUB = REPOSITORY / ".github/workflows"
STAND_INS = REPOSITORY / "cicd/act/stand-ins"
JENKINSFILE = REPOSITORY / "cicd/jenkins/Jenkinsfile"

OF_NEW_PROJECTS = REPOSITORY / "src/mlops_pipeline/pages/project/ci.yaml.txt"

WORKFLOWS = sorted(ACTIONS.glob("*.yaml"))
COMPOSITES = [*sorted(ACTIONS.glob("*/action.yml")), *sorted(STAND_INS.glob("*/action.yml"))]

Step = dict[str, Any]


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def steps_of(content: dict[str, Any]) -> list[Step]:
    """Every step of a workflow's jobs, or of a composite action."""
    if "runs" in content:
        return list(content["runs"]["steps"])
    return [step for job in content["jobs"].values() for step in job["steps"]]


def step_with_id(path: Path, name: str) -> Step:
    return next(step for step in steps_of(read(path)) if step.get("id") == name)


def foreign(content: dict[str, Any]) -> list[str]:
    return [step["uses"] for step in steps_of(content) if "uses" in step and not step["uses"].startswith("./")]


def command(*words: str, text: str | None = None, **where: Any) -> subprocess.CompletedProcess[str]:
    environ = process_environment() | where.pop("environ", {})
    return subprocess.run(
        words, env=environ, input=text, capture_output=True, text=True, timeout=120, check=False, **{"cwd": REPOSITORY, **where}
    )


def faults(content: dict[str, Any], text: str) -> Iterator[str]:
    """What the published schema lets pass and GitHub would tell only when the job runs, or never."""
    jobs = content.get("jobs", {})
    for name, job in jobs.items():
        needs = job.get("needs", [])
        yield from (
            f"{name} needs {other}, which is no job" for other in ([needs] if isinstance(needs, str) else needs) if other not in jobs
        )
        if "timeout-minutes" not in job:
            yield f"{name} has no timeout"
    for used in foreign(content):
        if not re.search(rf"uses: {re.escape(used.split('@')[0])}@[0-9a-f]{{40}} # v\d+\.\d+\.\d+$", text, re.MULTILINE):
            yield f"{used} is not pinned by a commit, with its version beside it"
    for step in steps_of(content):
        if step.get("uses", "").startswith("./") and not (REPOSITORY / step["uses"] / "action.yml").is_file():
            yield f"{step['uses']} does not exist"
        if "${{" in step.get("run", ""):
            yield f"an expression stands in a shell line: {step['run']}"
    for group in [job["steps"] for job in jobs.values()] or [steps_of(content)]:
        ids = {step.get("id") for step in group}
        yield from (f"steps.{used} is no step" for used in set(re.findall(r"steps\.([\w-]+)", yaml.safe_dump(group))) - ids)
    if jobs:
        yield from faults_of_the_whole(content)


def faults_of_the_whole(workflow: dict[str, Any]) -> Iterator[str]:
    if "on" not in workflow:
        yield "YAML reads the key on as true: write it in quotes"
    if workflow.get("permissions") != {"contents": "read"}:
        yield "the workflow asks for more than reading"
    if "group" not in workflow.get("concurrency", {}):
        yield "two runs can be at work at once"
    if workflow.get("defaults", {}).get("run", {}).get("shell") != "bash":
        yield "a failure inside a pipe goes unseen"
    if not workflow.get("env", {}).items() >= QUIET.items():
        yield "statistics are sent"


def test_github_reads_the_same_files() -> None:
    """Mended by: cp cicd/github_actions/*.yaml .github/workflows/"""
    written = {path.name: path.read_text() for path in WORKFLOWS}
    assert {"train-model.yaml", "release.yaml", "retrain.yaml", "newest-versions.yaml"} <= set(written)
    assert {path.name: path.read_text() for path in READ_BY_GITHUB.iterdir()} == written


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.github-actions", COMPOSITES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_published_schemas_hold(schema: str, files: list[Path]) -> None:
    done = command("check-jsonschema", "--builtin-schema", schema, *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_projects_workflow_is_one_and_uses_what_ours_use(tmp_path: Path) -> None:
    copy = tmp_path / "pipeline.yaml"
    copy.write_text(OF_NEW_PROJECTS.read_text())
    done = command("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {used for path in [*WORKFLOWS, *COMPOSITES] for used in foreign(read(path))}
    assert set(foreign(read(OF_NEW_PROJECTS))) <= ours


@pytest.mark.parametrize("path", [*WORKFLOWS, *COMPOSITES, OF_NEW_PROJECTS], ids=named)
def test_a_file_has_no_fault_that_the_schema_lets_pass(path: Path) -> None:
    assert list(faults(read(path), path.read_text())) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ('"on":', "on:", "YAML reads the key on as true"),
        ("needs: train", "needs: training", "integration needs training, which is no job"),
        ("    timeout-minutes: 30\n", "", "train has no timeout"),
        ("273ba90b1 # v7.0.1", "273ba90b1", "is not pinned"),
        ("3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "v7.0.1 # v7.0.1", "is not pinned"),
        ("./cicd/github_actions/setup", "./cicd/github_actions/set-up", "./cicd/github_actions/set-up does not exist"),
        ('TESTS="$TESTS"', 'TESTS="${{ inputs.tests }}"', "an expression stands in a shell line"),
        ("id: pipeline", "id: repro", "steps.pipeline is no step"),
        ("  contents: read", "  contents: write", "the workflow asks for more than reading"),
        ("  group: train-model-${{ github.ref }}\n", "", "two runs can be at work at once"),
        ("shell: bash", "shell: sh", "a failure inside a pipe goes unseen"),
        ('  DVC_NO_ANALYTICS: "1"\n', "", "statistics are sent"),
    ],
)
def test_a_fault_that_the_schema_lets_pass_is_caught(right: str, wrong: str, fault: str) -> None:
    text = (ACTIONS / "train-model.yaml").read_text()
    assert right in text
    broken = text.replace(right, wrong)
    assert any(fault in found for found in faults(yaml.safe_load(broken), broken))


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_act_reads_the_workflow(path: Path) -> None:
    done = command("act", "--list", "--strict", "--workflows", str(path), environ={"ACT_DISABLE_VERSION_CHECK": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(job in done.stdout for job in read(path)["jobs"])


@pytest.mark.parametrize("path", [*WORKFLOWS, *COMPOSITES], ids=named)
def test_shell_lines_of_a_file_pass_shellcheck(path: Path) -> None:
    for step in steps_of(read(path)):
        if "run" in step:
            done = command("shellcheck", "--shell=bash", "-", text=step["run"])
            assert done.returncode == 0, f"{step['run']}\n{done.stdout}"


def scripts() -> list[str]:
    """Every shell script of the repository, by its first line."""
    files = command("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    found = []
    for name in files:
        path = REPOSITORY / name
        if path.is_file():
            with path.open("rb") as file:
                if re.match(rb"#!.*\b(ba|da)?sh\b", file.readline(100)):
                    found.append(name)
    return found


def test_every_script_passes_shellcheck() -> None:
    found = scripts()
    assert {".ci/run", "cicd/act/run", "cicd/github_actions/try-images"} <= set(found)
    done = command("shellcheck", *found)
    assert done.returncode == 0, done.stdout


def test_act_has_a_stand_in_with_the_inputs_that_are_given_for_every_foreign_action_of_the_train_job() -> None:
    files = [ACTIONS / "train-model.yaml", ACTIONS / "setup/action.yml", ACTIONS / "results/action.yml"]
    steps = [step for path in files for step in steps_of(read(path)) if "@" in step.get("uses", "")]
    given = {step["uses"].split("@")[0].removeprefix("actions/"): set(step.get("with", {})) for step in steps}
    assert given.pop("checkout") == {"fetch-depth", "persist-credentials"}  # act checks out by itself
    assert set(given) == {path.name for path in STAND_INS.iterdir()}
    for name, inputs in given.items():
        assert inputs <= set(read(STAND_INS / name / "action.yml")["inputs"]), name


@pytest.mark.parametrize("lends", [True, False], ids=["lent", "not asked for"])
def test_a_new_environment_is_lent_what_another_has_compiled_and_nothing_else(lends: bool, tmp_path: Path) -> None:
    """By the Makefile's own lines, with a Python that makes an environment of two files."""
    compiled, clone, lender = "lib/python3.11/site-packages/one/__pycache__/it.cpython-311.pyc", tmp_path / "a clone", tmp_path / "a lender"
    for name in (compiled, f"{compiled}.140", "lib/python3.11/site-packages/one/it.py", "lib/python3.11/stray.pyc", "bin/other"):
        (lender / name).parent.mkdir(parents=True, exist_ok=True)
        (lender / name).write_text(name)
    clone.mkdir()
    shutil.copy(REPOSITORY / "Makefile", clone)
    made = 'case "$*" in "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;; *" pip install "*) touch .venv/bin/uv ;; esac'
    (clone / "python").write_text(f"#!/bin/sh\n{made}\n")
    (clone / "python").chmod(0o755)
    done = command("make", ".venv/bin/uv", "PYTHON=./python", cwd=clone, environ={"BYTECODE_OF": str(lender) if lends else ""})
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(clone / ".venv").as_posix() for path in (clone / ".venv").rglob("*") if path.is_file()}
    assert found == {"bin/python", "bin/uv", *([compiled] if lends else [])}
    assert not lends or (clone / ".venv" / compiled).read_text() == compiled


def test_act_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = command("cicd/act/run", str(tmp_path))
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path}: is not empty: name a new folder\n")


@pytest.mark.parametrize("base", ["", "0" * 40, "HEAD"], ids=["none given", "a first push", "a commit"])
def test_the_summary_shows_the_metrics_beside_those_of_an_earlier_commit(base: str, tmp_path: Path) -> None:
    clone, summary = tmp_path / "clone", tmp_path / "summary.md"
    assert command("git", "clone", "--quiet", str(REPOSITORY), str(clone)).returncode == 0
    metrics = clone / "models/artifacts/metrics.json"
    metrics.write_text(re.sub(r'"roc_auc": [\d.]+', '"roc_auc": 0.9', metrics.read_text()))
    step = steps_of(read(ACTIONS / "results/action.yml"))[0]
    done = command(
        "bash", "-e", "-o", "pipefail", "-c", step["run"], cwd=clone, environ={"BASE": base, "GITHUB_STEP_SUMMARY": str(summary)}
    )
    assert done.returncode == 0, done.stderr
    head, *table = summary.read_text().splitlines()
    assert re.fullmatch(r"### Metrics beside those of [0-9a-f]{7,}", head)
    assert any(re.fullmatch(r"\| roc_auc +\| 0\.\d+ +\| 0\.9 +\| -?0\.\d+ +\|", line) for line in table), table


def test_the_weekly_summary_shows_which_versions_moved(tmp_path: Path) -> None:
    lock, summary = tmp_path / "requirements-dev.txt", tmp_path / "summary.md"
    old = ["alpha==1.0", "beta==2.0", "gamma==3.0", "delta==1 ; python_version < '3.12'"]
    new = ["alpha==1.1", "beta==2.0", "delta==2 ; python_version < '3.12'", "new==0.1"]
    lock.write_text("".join(f"{line} \\\n    --hash=sha256:aa\n" for line in old))
    for words in (
        ("init", "--quiet"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", "lock"),
    ):
        assert command("git", *words, cwd=tmp_path).returncode == 0
    lock.write_text("".join(f"{line} \\\n    --hash=sha256:bb\n" for line in new))
    run = step_with_id(ACTIONS / "newest-versions.yaml", "versions")["run"]
    done = command("bash", "-e", "-o", "pipefail", "-c", run, cwd=tmp_path, environ={"GITHUB_STEP_SUMMARY": str(summary)})
    assert done.returncode == 0, done.stderr
    assert summary.read_text().splitlines() == [
        "### Versions that moved",
        "",
        "| package | locked | newest |",
        "|---|---|---|",
        "| alpha | 1.0 | 1.1 |",
        "| delta (python_version < '3.12') | 1 | 2 |",
        "| gamma | 3.0 | – |",
        "| new | – | 0.1 |",
    ]


def test_a_tag_that_is_not_the_version_releases_nothing(tmp_path: Path) -> None:
    run = step_with_id(ACTIONS / "release.yaml", "names")["run"]
    version = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    output = tmp_path / "output"
    environ = {"GITHUB_OUTPUT": str(output), "REGISTRY": "ghcr.io", "NAMESPACE": "SomeOne"}
    refused = command("bash", "-e", "-c", run, environ={**environ, "TAG": "v99.0.0"})
    assert (refused.returncode, output.exists()) == (2, False)
    assert f"the tag is v99.0.0 and the version {version}" in refused.stdout
    assert command("bash", "-e", "-c", run, environ={**environ, "TAG": f"v{version}"}).returncode == 0
    assert f"serving=ghcr.io/someone/mlops-pipeline-serve:{version}\n" in output.read_text()


def test_jenkins_runs_make_targets_alone_and_sends_no_statistics() -> None:
    text = JENKINSFILE.read_text()
    lines = re.findall(r"\bsh\b\s*\(?\s*['\"]+(.*?)['\"]+\)?$", text, re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert len(lines) == len(re.findall(r"\bsh\b", re.sub(r"//.*", "", text)))
    assert [line.split()[0] for line in lines] == ["make"] * len(lines)
    assert {"setup-dev", "check", "run", "test"} == {line.split()[1] for line in lines} <= targets
    assert dict(re.findall(r"^ +([A-Z_]+) = '(.+)'$", text, re.MULTILINE)).items() >= QUIET.items()


def test_a_runtime_is_asked_past_python_however_many_runs_see_to_it_at_once(tmp_path: Path) -> None:
    runc, runtime = tmp_path / "runc", tmp_path / "runtime"
    runc.write_text('#!/bin/sh\necho "runc $*"\n')
    shim = f'#!/usr/bin/env python3\nimport os, sys\nprint("Python", flush=True)\nos.execv("{runc}", ["runc", *sys.argv[1:]])\n'
    runtime.write_text(shim)
    for program in (runc, runtime):
        program.chmod(0o755)

    def said(word: str) -> str:
        return command(str(runtime), word, "one").stdout

    assert (said("state"), said("create")) == ("Python\nrunc state one\n", "Python\nrunc create one\n")
    for _ in range(2):
        runs = [subprocess.Popen([REPOSITORY / ".ci/ask-runc-itself", runtime]) for _ in range(8)]
        assert [run.wait(60) for run in runs] == [0] * 8
        assert (said("state"), said("create")) == ("runc state one\n", "Python\nrunc create one\n")
    assert (tmp_path / "runtime.py").read_text() == shim
    assert {path.name for path in tmp_path.iterdir()} == {"runc", "runtime", "runtime.py"}
    for nothing in ("", str(tmp_path / "none"), str(runc)):
        assert command(str(REPOSITORY / ".ci/ask-runc-itself"), nothing).returncode == 0
    assert runc.read_text().startswith("#!/bin/sh\necho")
