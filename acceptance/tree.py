"""The contract's «Tree»: every path it names, each held against what it is named for."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

from acceptance.commands import one_line
from acceptance.promises import Row, expect
from acceptance.session import Session, ask
from acceptance.setting_up import LOCKED_ON, STAGES, locked, normalised

SECTION = "Tree"
BASE = ("pip install -r requirements.txt",)
RUN = ("dvc repro",)


def dvc_yaml(at: Session, line: str) -> str:
    names = [entry.split()[0] for entry in at.type(line).out.splitlines()]
    expect(names == STAGES, f"its stages are {names}")
    return " ► ".join(names)


def project_of(at: Session) -> dict[str, Any]:
    return dict(tomllib.loads((at.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def metadata(at: Session, line: str) -> str:
    at.type(line)
    content, project = at.read_json("metadata.json"), project_of(at)
    expect(content.get("name") == project["name"], f"it names {content.get('name')}")
    expect(content.get("version") == project["version"], f"it names version {content.get('version')}, pyproject.toml {project['version']}")
    stages = [stage["name"] for stage in content["pipeline"]["stages"]]
    expect(stages == STAGES, f"its stages are {stages}")
    tasks, tested = content["tasks"], content["tested_with"]["packages"]
    expect(tasks["learning"] and tasks["operations"], f"it names the tasks {tasks}")
    expect(tested, "it names no versions that it was tested with")
    locks = "".join(file.read_text(encoding="utf-8") for file in at.folder.glob("requirements*.txt"))
    pins = locked(locks)
    strays = {name: numbers for name, numbers in tested.items() if not set(numbers) <= pins.get(normalised(name), set())}
    expect(not strays, f"it names versions that no lock has: {strays}")
    counts = f"{len(stages)} stages, {len(tasks['learning'])} learning tasks, {len(tasks['operations'])} operations"
    return f"{content['name']} {content['version']}, {counts}, {len(tested)} packages with the locks' versions"


def mlflow_folder(at: Session, line: str, server: str, defined: str) -> str:
    files = at.type(line).out.split()
    port = at.port("MLFLOW_PORT")  # what the shell has set stays, whatever the file says
    with at.serving(server, f"http://127.0.0.1:{port}/health"):
        answer = ask(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=flights")
        expect(answer.status == 200, f"the server knows no experiment flights: HTTP {answer.status}")
        tags = {tag["key"]: tag["value"] for tag in answer.json()["experiment"]["tags"]}
    wanted = at.type(defined).out.strip()
    expect(
        tags.get("mlflow.note.content") == wanted, f"the experiment is described as {tags.get('mlflow.note.content')!r}, not as {wanted!r}"
    )
    return f"{', '.join(files)}; the server of server.env answers, and shows the experiment as experiments.yaml describes it"


def prefect_folder(at: Session, flows: str, deployments: str, infrastructure: str) -> str:
    seen = []
    for line, needed in (
        (flows, "prefect/flows/training_pipeline.py"),
        (deployments, "prefect/deployments/prefect.yaml"),
        (infrastructure, "prefect/infrastructure/"),
    ):
        files = at.type(line).out.split()
        expect(any(file.startswith(needed) for file in files), f"{needed} is not in Git")
        seen += files
    (project,) = at.read_yaml("prefect/deployments/prefect.yaml")
    for deployment in project["deployments"]:
        file, _, flow = deployment["entrypoint"].partition(":")
        expect(f"def {flow}(" in (at.folder / file).read_text(encoding="utf-8"), f"the entrypoint {deployment['entrypoint']} is not there")
    starts = [f"{deployment['name']} starts {deployment['entrypoint']}" for deployment in project["deployments"]]
    return f"{', '.join(seen)}; {', '.join(starts)}"


def not_shadowed(at: Session, inits: str, line: str) -> str:
    expect(not at.type(inits).out.strip(), "there is an __init__.py in mlflow/ or prefect/")
    files = at.type(line).out.split()
    expect(len(files) == 2 and all("site-packages" in file for file in files), f"the names lead to {files}")
    return "no __init__.py; both names lead to site-packages"


def front_doors(at: Session, *lines: str) -> str:
    # A library of each front door's name, and a note at the end of the process of which of the two an import would find.
    library = at.scratch / "library"
    library.mkdir(exist_ok=True)
    names = ("train", "evaluate", "predict", "monitoring")
    for name in names:
        (library / f"{name}.py").write_text("", encoding="utf-8")
    (library / "sitecustomize.py").write_text(
        "import atexit, importlib.util\n"
        f"atexit.register(lambda: print('FOUND', *(importlib.util.find_spec(name).origin for name in {names}), sep='\\n'))\n",
        encoding="utf-8",
    )
    for line in lines:
        origins = at.type(line).out.partition("FOUND\n")[2].split()
        expect(origins == [str(library / f"{name}.py") for name in names], f"`{line}`: imports of {names} would find {origins}")
    return "each answers --help, and while it runs `import evaluate`, `train`, `predict` and `monitoring` find the libraries, not src/"


def package(at: Session, line: str) -> str:
    place = at.type(line).out.strip()
    expect(place == str(at.folder / "src/mlops_pipeline/__init__.py"), f"the package lies at {place}")
    return f"{len(at.tracked('src/mlops_pipeline'))} files; the name leads to src/mlops_pipeline"


def folder_of(needed: dict[str, str]) -> Callable[..., str]:
    """A check that Git keeps folders, and that after a run there is in each what it is for."""

    def check(at: Session, line: str) -> str:
        files = at.type(line).out.split()
        seen = []
        for folder, pattern in needed.items():
            expect(any(file.startswith(f"{folder}/") for file in files), f"Git keeps no {folder}/")
            there = sorted(path.relative_to(at.folder / folder) for path in (at.folder / folder).glob(pattern))
            expect(there, f"after a run there is no {folder}/{pattern}")
            seen.append(f"{folder}/{there[0]}")
        return f"kept by Git; after a run: {', '.join(seen)}"

    return check


def configuration(at: Session, line: str, bad: str) -> str:
    resolved = at.type(line).out
    expect('"name": "flights"' in resolved and '"seed": 42' in resolved, "the settings are not the file's")
    text = (at.folder / "configs/training_config.yaml").read_text(encoding="utf-8")
    (at.folder / "configs/misspelt.yaml").write_text(text.replace("seed: 42", "sede: 42"), encoding="utf-8")
    try:
        told = one_line(at, bad, "misspelt.yaml", "sede")
    finally:
        (at.folder / "configs/misspelt.yaml").unlink()
    return f"resolves; a misspelt key: exit code 2, «{told[:90]}»"


def conda(at: Session, line: str) -> str:
    at.type(line)
    (content,) = at.read_yaml("environment.yml")
    python = [one for one in content["dependencies"] if isinstance(one, str) and one.startswith("python ")]
    installs = [one for entry in content["dependencies"] if isinstance(entry, dict) for one in entry["pip"]]
    expect(python and "pip" in content["dependencies"], "it brings no Python or no pip")
    expect(any("requirements.txt" in one for one in installs), f"pip installs {installs}")
    wanted = project_of(at)["requires-python"]
    expect(python[0].split()[1] == wanted, f"it names {python[0]}, pyproject.toml {wanted}")
    return f"conda {content['name']}: {python[0]}, pip {' '.join(installs)}; conda itself was not run"


def tests(at: Session, line: str) -> str:
    said = at.type(line).out  # nothing is asserted: to rewrite every assert would take as long again as to collect
    counts = {
        folder: len(re.findall(rf"^tests/{folder}/\S+::", said, re.MULTILINE))
        for folder in ("unit_tests", "integration_tests", "model_tests")
    }
    expect(all(counts.values()), f"pytest collects {counts}")
    return ", ".join(f"{folder} {count}" for folder, count in counts.items()) + " tests"


def docker_files(at: Session, line: str) -> str:
    at.type(line)
    seen = []
    for name in ("Dockerfile", "Dockerfile.serve"):
        text = (at.folder / "docker" / name).read_text(encoding="utf-8")
        base = re.search(r"^ARG BASE_IMAGE=(\S+?)@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
        users = re.findall(r"^USER (\S+)$", text, re.MULTILINE)
        expect(base, f"docker/{name} pins no base image by digest")
        expect(users and users[-1].split(":")[0] not in ("0", "root"), f"docker/{name} runs as root")
        seen.append(f"{name} on {base[1] if base else ''}, user {users[-1]}")
    (compose,) = at.read_yaml("docker/docker-compose.yml")
    services = compose["services"]
    lacking = [name for name, one in services.items() if not ({"image", "build"} & one.keys())]
    expect(len(services) > 2 and not lacking, f"services without an image: {lacking}")
    return f"{'; '.join(seen)}; compose: {', '.join(services)}"


def ci_files(at: Session, github: str, rendered: str) -> str:
    at.type(github)
    at.type(rendered)
    (workflow,) = at.read_yaml("cicd/github_actions/train-model.yaml")
    steps = "\n".join(str(step.get("run", "")) for job in workflow["jobs"].values() for step in job["steps"])
    expect("dvc repro" in steps and "make test" in steps, "the workflow does not run `dvc repro` and the tests")
    jenkins = (at.folder / "cicd/jenkins/Jenkinsfile").read_text(encoding="utf-8")
    expect(re.search(r"^pipeline \{", jenkins, re.MULTILINE) and jenkins.count("stage(") > 2, "the Jenkinsfile is no pipeline")
    (argo,) = at.read_yaml("cicd/argo_workflows/workflow-template.yaml")
    expect(argo["kind"] == "WorkflowTemplate", f"the Argo file is a {argo['kind']}")
    tasks = [task["name"] for one in argo["spec"]["templates"] for task in one.get("dag", {}).get("tasks", [])]
    expect([name for name in tasks if name in STAGES] == STAGES, f"the Argo workflow's tasks are {tasks}")
    jobs = ", ".join(workflow["jobs"])
    stages = jenkins.count("stage(")
    return f"GitHub Actions: jobs {jobs}, equal to .github/workflows; Jenkins: {stages} stages; Argo: {len(tasks)} tasks, current"


def kubernetes(at: Session, line: str) -> str:
    files = at.type(line).out.split()
    counts: dict[str, int] = {}
    for document in at.read_yaml("k8s/model-deployment.yaml"):
        counts[document["kind"]] = counts.get(document["kind"], 0) + 1
    expect({"Deployment", "Service"} <= counts.keys(), f"model-deployment.yaml holds {counts}")
    return f"{len(files)} files; model-deployment.yaml: {', '.join(counts)}"


def notebook(name: str) -> Callable[..., str]:
    """A check that a notebook was run from top to bottom without an error, and shows something."""

    def check(at: Session, line: str) -> str:
        at.type(line)
        content = at.read_json(f"notebooks/{name}.ipynb")
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
        outputs = [output for cell in cells for output in cell["outputs"]]
        expect(cells, "it has no code")
        expect(all(cell["execution_count"] for cell in cells), "it has cells that were not run")
        numbers = [cell["execution_count"] for cell in cells]
        expect(numbers == sorted(numbers), f"its cells were run in the order {numbers}")
        expect(not [one for one in outputs if one["output_type"] == "error"], "it shows an error")
        pictures = sum("image/png" in one.get("data", {}) or "image/svg+xml" in one.get("data", {}) for one in outputs)
        expect(outputs, "it shows nothing")
        return f"{len(cells)} cells run in order, {len(outputs)} outputs, {pictures} of them pictures, no error"

    return check


def run_again(at: Session, run: str, status: str) -> str:
    with at.undone_by("git checkout --quiet notebooks"):
        done = at.type(run)
        changed = at.type(status).out.splitlines()
    minor = int(at.type("python -c 'import sys; print(sys.version_info[1])'").out)
    expect(not changed or minor != LOCKED_ON, f"what they show differs from what is committed: {changed}")
    differ = f"on Python 3.{minor} {len(changed)} of them differ from those committed, which are of 3.{LOCKED_ON}"
    return f"run anew in {done.seconds:.0f} s; {differ if changed else 'what they show is what is committed, to the byte'}"


SMALL = "small"
"""Instead of the notebooks, whose every figure the tests look at, one of a single cell: that the command itself works."""


def run_small(at: Session, run: str, status: str) -> str:
    cell: dict[str, Any] = {"cell_type": "code", "id": "one"}
    cell |= {"metadata": {}, "execution_count": None, "outputs": [], "source": "print(42)"}
    path = at.scratch / "small.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    done = at.type(run)
    (ran,) = json.loads(path.read_text(encoding="utf-8"))["cells"]
    expect([one.get("text") for one in ran["outputs"]] in (["42\n"], [["42\n"]]), f"it shows {ran['outputs']}")
    changed = at.type(status).out.splitlines()
    expect(not changed, f"it has changed {changed}")
    return f"a notebook of one cell run in {done.seconds:.0f} s; the project's own are as they were"


def rows(run: str = "") -> list[Row]:
    """The section's rows in the contract's order."""

    def row(name: str, promise: str, types: tuple[str, ...], check: Callable[..., str], needs: tuple[str, ...] = BASE) -> Row:
        return Row(name, SECTION, promise, types, check, needs)

    doors = tuple(f'PYTHONPATH="$SCRATCH"/library python src/{name}.py --help' for name in ("train", "evaluate", "predict", "monitoring"))
    which = '"$SCRATCH"/small.ipynb' if run == SMALL else f"'{run}'"
    again = f"make notebooks NOTEBOOKS={which}" if run else "make notebooks"
    notebooks = ("01_data_exploration", "02_model_training", "03_pipeline_implementation")
    return [
        row("dvc.yaml", "the pipeline", ("dvc stage list --name-only",), dvc_yaml),
        row(
            "metadata.json",
            "name, version, the stages, the tasks it covers, the versions it was tested with",
            ("python -m json.tool metadata.json",),
            metadata,
        ),
        row(
            "mlflow/",
            "server configuration, experiment definitions",
            (
                "git ls-files mlflow",
                "mlflow --env-file mlflow/server.env server",
                "python -c \"import yaml; print(yaml.safe_load(open('mlflow/experiments.yaml'))['flights']['description'])\"",
            ),
            mlflow_folder,
            needs=RUN,
        ),
        row(
            "prefect/",
            "flows, deployments, infrastructure",
            tuple(f"git ls-files prefect/{one}" for one in ("flows", "deployments", "infrastructure")),
            prefect_folder,
        ),
        row(
            "mlflow/ and prefect/ shadow nothing",
            "they hold no __init__.py, and never shadow the libraries of those names",
            ("find mlflow prefect -name __init__.py", 'python -c "import mlflow, prefect; print(mlflow.__file__, prefect.__file__)"'),
            not_shadowed,
        ),
        row(
            "data/",
            "raw, processed, validation",
            ("git ls-files data",),
            folder_of({"data/raw": "*.parquet", "data/processed": "*.parquet", "data/validation": "*.report.html"}),
            RUN,
        ),
        row(
            "models/",
            "artifacts, registry, versions",
            ("git ls-files models",),
            folder_of({"models/artifacts": "model/MLmodel", "models/registry": "best_model/MLmodel", "models/versions": "*/MLmodel"}),
            RUN,
        ),
        row(
            "configs/training_config.yaml",
            "the settings",
            ("mlops config --config configs/training_config.yaml", "mlops config --config configs/misspelt.yaml"),
            configuration,
        ),
        row("environment.yml", "the conda file a logged model may name", ("cat environment.yml",), conda),
        row(
            "src/mlops_pipeline",
            "the package beside the front doors",
            ('python -c "import mlops_pipeline; print(mlops_pipeline.__file__)"',),
            package,
        ),
        row("src/{train,evaluate,predict,monitoring}.py", "no front door shadows a library of its name", doors, front_doors),
        row(
            "tests/", "unit_tests, integration_tests, model_tests", ("pytest --collect-only --quiet --no-cov --assert=plain tests/",), tests
        ),
        row(
            "docker/",
            "Dockerfile, Dockerfile.serve, docker-compose.yml",
            ("cat docker/Dockerfile docker/Dockerfile.serve docker/docker-compose.yml",),
            docker_files,
        ),
        row(
            "cicd/",
            "github_actions, jenkins, argo_workflows",
            (
                "for file in cicd/github_actions/*.yaml; do cmp $file .github/workflows/${file##*/} || exit 1; done",
                "mlops render --check",
            ),
            ci_files,
        ),
        row("k8s/", "manifests", ("git ls-files k8s",), kubernetes),
        *(
            row(
                f"notebooks/{name}.ipynb",
                "committed with its outputs",
                (f"git ls-files --error-unmatch notebooks/{name}.ipynb",),
                notebook(name),
            )
            for name in notebooks
        ),
        Row(
            "make notebooks",
            "README",
            "a notebook is run and stored"
            if run == SMALL
            else f"{run or 'the notebooks'} run from top to bottom, and show what is committed",
            (again, "git status --porcelain notebooks"),
            run_small if run == SMALL else run_again,
            needs=("dvc repro", "pip install -r requirements-dev.txt"),
            within=1200,
            installs=True,
        ),
    ]
