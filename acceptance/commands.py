"""The contract's «Commands», in its order, and the README's first commands."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from acceptance.cluster import kubectl_apply
from acceptance.promises import Row, expect
from acceptance.session import Session, ask
from acceptance.setting_up import STAGES, other_versions, readme_run, set_up, tests_parts

SECTION = "Commands"
CONFIG = "configs/training_config.yaml"


# ---------------------------------------------------------------------------------------------------------------- DVC


def dvc_is_there(at: Session, files: str, remotes: str, init: str) -> str:
    committed = at.type(files).out.split()
    expect(".dvc/config" in committed, f"Git keeps no .dvc/config, but {committed}")
    expect("dvc.yaml" in committed and "dvc.lock" in committed, f"Git keeps no dvc.yaml or dvc.lock, but {committed}")
    remote = at.type(remotes).out.split()
    expect(len(remote) == 3 and remote[2] == "(default)" and Path(remote[1]).is_absolute(), f"there is no local default remote: {remote}")
    again = at.type(init, code=None)
    expect(again.code != 0 and "'.dvc' exists" in again.said, "`dvc init` did not find the project initialised")
    return (
        f".dvc/config, dvc.yaml and dvc.lock are committed; default remote «{remote[0]}», a local folder; `dvc init` again: '.dvc' exists"
    )


def repro(at: Session, once: str, again: str) -> str:
    first = at.type(once)
    ran = re.findall(r"Running stage '(\w+)'", first.said)
    expect(ran == STAGES, f"`dvc repro` ran {ran}")
    figures = at.read_json("models/artifacts/metrics.json")
    expect((at.folder / "models/registry/best_model/MLmodel").is_file(), "there is no champion in models/registry/best_model")
    second = at.type(again)
    expect("Running stage" not in second.said and "up to date" in second.said, "the second `dvc repro` did something")
    return f"six stages in {first.seconds:.1f} s, roc_auc {figures['roc_auc']:.4f}; the second run did nothing in {second.seconds:.1f} s"


def dvc_storage(at: Session, push: str, lose: str, pull: str, forget: str, again: str, remember: str) -> str:
    model = at.folder / "models/artifacts/model/model.skops"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    at.type(push)
    storage = Path(at.type("dvc remote list").out.split()[1])
    count = sum(file.is_file() for file in storage.rglob("*"))
    expect(count > len(STAGES), f"after `dvc push` {storage} holds {count} files")
    try:
        at.type(lose)
        expect(not model.exists(), "the model is still there")
        at.type(pull)
        expect(hashlib.sha256(model.read_bytes()).hexdigest() == before, "`dvc pull` brought another model")
        with at.undone_by(remember):
            at.type(forget)
            said = at.type(again).said
    except Exception:
        at.tidy("dvc repro", 300)  # whatever is missing now, later rows need it
        raise
    # DVC's stage cache leaves out a stage of which Git keeps an output, as it does the schema that `validate` writes.
    cached = re.findall(r"Stage '(\w+)' is cached - skipping run", said)
    expect({"ingest", "split", "train"} <= set(cached), f"without dvc.lock, only {cached} came from the stage cache")
    return f"{count} files in the local remote; the model pulled is equal to the byte; without dvc.lock {', '.join(cached)} are cached"


# ------------------------------------------------------------------------------------------------------------- MLflow


def mlflow_api(url: str, path: str, body: Any = None) -> Any:
    """An answer of MLflow's REST API. Raises :class:`Unmet` if it is not 200."""
    answer = ask(f"{url}/api/2.0/mlflow/{path}", body)
    expect(answer.status == 200, f"MLflow answers {path} with {answer.status}: {answer.text[:200]}")
    return answer.json()


def runs_of(url: str, experiment: str) -> dict[str, Any]:
    found = mlflow_api(url, f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
    runs = mlflow_api(url, "runs/search", {"experiment_ids": [found], "max_results": 1000}).get("runs", [])
    return {run["info"]["run_id"]: run for run in runs}


def tracking_server(at: Session, server: str, change: str, train: str, *back: str) -> str:
    url = f"http://127.0.0.1:{at.port()}"
    with at.serving(server, f"{url}/health"):
        before = runs_of(url, "flights")
        with at.undone_by(*back):
            at.type(change)
            at.type(train)
            new = {key: run for key, run in runs_of(url, "flights").items() if key not in before}
        expect(len(new) == 1, f"the server knows {len(new)} new runs")
        ((key, run),) = new.items()
        expect(run["info"]["status"] == "FINISHED", f"the run {key} is {run['info']['status']}")
        params = {item["key"]: item["value"] for item in run["data"].get("params", [])}
        expect(len(params) > 5, f"the run has only the parameters {params}")
        champion = mlflow_api(url, "registered-models/alias?name=flights&alias=champion")["model_version"]
        page = ask(url)
        expect(page.status == 200 and "<html" in page.text.lower(), "the server has no page")
    return (
        f"/health 200, the page too; experiment flights has {len(before) + 1} runs, the newest logged through it, FINISHED, {len(params)} "
        f"parameters; flights version {champion['version']} is champion"
    )


def on_postgresql(at: Session, database: str, server: str, train: str) -> str:
    url, log = f"http://127.0.0.1:{at.port()}", at.scratch / "postgresql/uri"
    with at.serving(database, log.is_file):
        at.settings["DATABASE"] = log.read_text().strip()
        with at.serving(server, f"{url}/health"):
            at.type(train)
            runs = runs_of(url, "flights")
            expect([run["info"]["status"] for run in runs.values()] == ["FINISHED"], f"PostgreSQL holds the runs {list(runs)}")
    return "real PostgreSQL from a wheel: /health 200, the training's run is in it, FINISHED"


def models_serve(at: Session, theirs: str, ours: str, request: str) -> str:
    one, two = f"http://127.0.0.1:{at.port()}", f"http://127.0.0.1:{at.port('OTHER_PORT')}"
    said: dict[str, list[list[float]]] = {}
    for line, url, ready in ((theirs, one, "/ping"), (ours, two, "/ready")):
        with at.serving(line, f"{url}{ready}"):
            at.settings["URL"] = url
            said[line] = json.loads(at.type(request).out)["predictions"]
    left, right = said[theirs], said[ours]
    expect(len(left) == len(right) > 0, f"{len(left)} answers beside {len(right)}")
    furthest = max(abs(a - b) for row, other in zip(left, right, strict=True) for a, b in zip(row, other, strict=True))
    expect(furthest < 1e-4, f"the two servers' answers differ by {furthest}")
    return f"HTTP 200, {len(left)} rows, the first with probability {left[0][1]:.4f}; `mlops serve` says the same within {furthest:.0e}"


# ------------------------------------------------------------------------------------------------------------ Prefect


def flow_runs(api: str) -> list[Any]:
    return list(ask(f"{api}/flow_runs/filter", {}).json())


def completed_tasks(at: Session, api: str, run: str) -> int:
    """How many task runs of a flow run are completed, once the server knows the end of six."""
    found: list[Any] = []

    def known() -> bool:
        found[:] = ask(f"{api}/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}).json()
        return sum(task["state_type"] in ("COMPLETED", "FAILED", "CRASHED") for task in found) == len(STAGES)

    at.wait_for(known, "the end of six task runs on the server")
    expect({task["state_type"] for task in found} == {"COMPLETED"}, f"the tasks ended as {[task['state_name'] for task in found]}")
    return len(found)


@contextmanager
def without_a_model(at: Session) -> Iterator[None]:
    """Take the trained model away while the block runs, which has to bring it back; if it fails, rows after it find it as it was."""
    place, aside = at.folder / "models/artifacts/model", at.scratch / "model-aside"
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    try:
        yield
        expect((place / "MLmodel").is_file(), "the flow did not bring the missing model back")
    except Exception:
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
        raise


def embedded(at: Session, flow: str) -> str:
    at.settings["PREFECT_HOME"] = str(at.scratch / EMBEDDED)
    with without_a_model(at):
        said = at.type(flow).said
    expect("Starting temporary server" in said, "the flow started no server of its own")
    expect(re.search(r"Finished in state Completed\(\)", said), "the flow did not end as Completed")
    done = len(re.findall(r"Task run '\w+-\w+' - Finished in state Completed\(\)", said))
    expect(done == len(STAGES), f"{done} tasks ended as Completed")
    return f"with none set: a temporary server of its own, {done} tasks Completed, the missing model is back"


EMBEDDED, DATABASE = "prefect-embedded", "prefect.db"
"""The first home of Prefect's, in which a server has to make its database, and that."""


def prefect_home(at: Session, name: str) -> None:
    """Point lines at a Prefect home of their own, with the first one's database, runs included: to make one is most of a server's start."""
    home, first = at.scratch / name, at.scratch / EMBEDDED / DATABASE
    at.settings["PREFECT_HOME"] = str(home)
    if first.is_file() and not (home / DATABASE).exists():
        home.mkdir(exist_ok=True)
        with closing(sqlite3.connect(first)) as made, closing(sqlite3.connect(home / DATABASE)) as copy:
            made.backup(copy)


def prefect_server(at: Session, name: str) -> str:
    """The same; the address of the API to come."""
    prefect_home(at, name)
    return f"http://127.0.0.1:{at.port()}/api"


def config_set(at: Session, server: str, setting: str, flow: str) -> str:
    api = prefect_server(at, "prefect-set")
    with at.serving(server, f"{api}/health"):
        at.type(setting)
        profiles = (at.scratch / "prefect-set/profiles.toml").read_text()
        expect(api in profiles, "`prefect config set` kept nothing")
        before = {run["id"] for run in flow_runs(api)}
        with without_a_model(at):
            said = at.type(flow).said
        expect("temporary server" not in said, "the flow ran on a server of its own")
        runs = [run for run in flow_runs(api) if run["id"] not in before]
        expect([run["state_type"] for run in runs] == ["COMPLETED"], f"the server knows the new runs {[run['state_name'] for run in runs]}")
        done = completed_tasks(at, api, runs[0]["id"])
    return f"the server's API: one flow run COMPLETED, {done} task runs COMPLETED; the missing model is back"


def deployment_run(at: Session, server: str, setting: str, pool: str, deploy: str, worker: str, run: str) -> str:
    api = prefect_server(at, "prefect-deployed")
    with at.serving(server, f"{api}/health"):
        at.type(setting)
        at.type(pool)
        at.type(deploy)
        deployment = ask(f"{api}/deployments/name/mlops-pipeline/training-deployment").json()
        expect(deployment["work_pool_name"] == "training-pool", f"it is deployed to {deployment['work_pool_name']}")
        schedules = [(one["schedule"].get("cron"), one["active"]) for one in deployment["schedules"]]
        filtered = {"work_pools": {"name": {"any_": ["training-pool"]}}}

        def is_at_work() -> bool:
            return len(ask(f"{api}/work_pools/training-pool/workers/filter", {}).json()) == 1

        with without_a_model(at), at.serving(worker, is_at_work):
            at.type(run)
            ended: list[Any] = []

            def is_over() -> bool:
                ended[:] = [
                    one
                    for one in ask(f"{api}/flow_runs/filter", filtered).json()
                    if one["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
                ]
                return len(ended) == 1

            at.wait_for(is_over, "the end of the flow run on the worker")
            expect(ended[0]["state_type"] == "COMPLETED", f"the run ended as {ended[0]['state_name']}: {ended[0]['state'].get('message')}")
            done = completed_tasks(at, api, ended[0]["id"])
            of_the_run = {"key": {"any_": ["evaluation-flights"]}, "flow_run_id": {"any_": [ended[0]["id"]]}}
            table = ask(f"{api}/artifacts/filter", {"artifacts": of_the_run}).json()
            expect(len(table) == 1, "the evaluation table is not among the run's artifacts")
    return (
        f"the API: run COMPLETED on the process pool's worker in {ended[0]['total_run_time']:.0f} s, {done} tasks, evaluation table; "
        f"schedule {schedules[0][0]} {'active' if schedules[0][1] else 'paused'}"
    )


# -------------------------------------------------------------------------------------------------------- front doors


def mlflow_runs(at: Session, since: float) -> list[Any]:
    """The runs in the project's own store that began since a moment, through MLflow's public interface."""
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow/mlflow.db');"
        f"new = 'attributes.start_time >= {int(since * 1000)}';"
        "runs = mlflow.search_runs(experiment_names=['flights'], filter_string=new, output_format='list');"
        "print(json.dumps([[r.info.status, r.data.params, r.data.metrics] for r in runs]))"
    )
    return list(at.python(code))


def train(at: Session, change: str, door: str, *back: str) -> str:
    with at.undone_by(*back):
        at.type(change)
        began = time.time()
        at.type(door)
        new = mlflow_runs(at, began)
        expect(len(new) == 1, f"MLflow has {len(new)} new runs")
        ((status, params, metrics),) = new
        expect(status == "FINISHED" and len(params) > 5, f"the run is {status} with {len(params)} parameters")
        model = at.folder / "models/artifacts/model/MLmodel"
        expect(model.is_file(), "there is no model")
        rows = at.read_json("models/artifacts/training.json")["train_rows"]
    return (
        f"trained on {rows:,} rows; MLflow has one run more, FINISHED, {len(params)} parameters, fit_seconds {metrics['fit_seconds']:.1f}"
    )


def one_line(at: Session, line: str, *words: str) -> str:
    """What a refused line says: one line, exit code 2, no traceback, and the words in it."""
    refused = at.type(line, code=2)
    told = [text for text in refused.err.splitlines() if text.strip()]
    expect(len(told) == 1 and "Traceback" not in refused.said, f"it was refused in {len(told)} lines")
    expect(all(word in told[0] for word in words), f"the refusal does not name {words}: {told[0]}")
    return told[0]


def evaluate(at: Session, line: str, bad: str) -> str:
    page = at.folder / "models/artifacts/evaluation/report.html"
    metrics = at.folder / "models/artifacts/metrics.json"
    for file in (page, metrics):
        file.unlink(missing_ok=True)
    try:
        at.type(line)
        figures = at.read_json("models/artifacts/metrics.json")
        expect(0.5 < figures["roc_auc"] < 1 and page.is_file(), "there is no report, or a figure that cannot be")
    except Exception:
        at.tidy("dvc repro", 300)  # rows after it read both files
        raise
    refusal = one_line(at, bad, "nowhere.yaml")
    return f"metrics.json and report.html anew, roc_auc {figures['roc_auc']:.4f}; a missing file: exit code 2, «{refusal[:70]}»"


def auc(labels: list[bool], scores: list[float]) -> float:
    """Area under the ROC curve by ranks, ties shared: this package's own arithmetic, to hold the project's against."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    total, i = 0.0, 0
    while i < len(order):
        j = i
        while j < len(order) and scores[order[j]] == scores[order[i]]:
            j += 1
        total += (i + 1 + j) / 2 * sum(labels[k] for k in order[i:j])
        i = j
    positives = sum(labels)
    return (total - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


def predict(at: Session, line: str, narrow: str, broken: str) -> str:
    at.type(line)
    with (at.scratch / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expect(len(rows) > 10_000, f"{len(rows)} predictions were written")
    found = auc([row["late"] in ("true", "True", "1", "1.0") for row in rows], [float(row["probability_1"]) for row in rows])
    stated = at.read_json("models/artifacts/metrics.json")["roc_auc"]
    expect(abs(found - stated) < 0.0005, f"the predictions give roc_auc {found:.4f}, metrics.json says {stated:.4f}")
    (at.scratch / "narrow.csv").write_text("carrier,origin\nUA,EWR\n", encoding="utf-8")
    one_line(at, narrow, "narrow.csv", "is missing")
    with (at.scratch / "broken.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys() - {"prediction", "probability_0", "probability_1"}, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([rows[0], {**rows[1], "distance": "-7"}])
    at.type(broken)
    rejected = (at.scratch / "some.rejected.csv").read_text(encoding="utf-8").splitlines()
    expect(len(rejected) == 2 and "distance" in rejected[1], f"the broken row was not kept aside with its reason: {rejected}")
    return (
        f"{len(rows):,} rows; roc_auc of what was written, computed here: {found:.4f}, as in metrics.json; a missing column: exit code 2, "
        "one line; a broken row is kept aside with its reason"
    )


# -------------------------------------------------------------------------------------------------------------- pytest


def summary(text: str) -> tuple[dict[str, int], int | None]:
    """The counts in pytest's closing line, and the coverage in percent if it was measured."""
    closing = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|error)", line) and " in " in line]
    counts = (
        {word.rstrip("s") if word == "errors" else word: int(n) for n, word in re.findall(r"(\d+) (\w+)", closing[-1])} if closing else {}
    )
    total = re.search(r"^TOTAL\b.*?(\d+)%", text, re.MULTILINE)
    return {name: counts[name] for name in ("passed", "failed", "error", "skipped") if name in counts}, int(total[1]) if total else None


def promised(suite: str) -> str:
    """Which tests a row of pytest stands for."""
    tests = "all tests" if suite.split() == ["tests/"] else "the fast tests" if "not slow" in suite else f"the tests of `{suite}`"
    return f"{tests}, with coverage"


def pytest(at: Session, line: str) -> str:
    done = at.type(line, code=None)
    counts, coverage = summary(done.out)
    seen = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no test ran"
    expect(done.code == 0, f"exit code {done.code}: {seen}")
    expect(counts.get("passed", 0) > 0 and coverage is not None, f"{seen}, coverage {coverage}")
    return f"{seen}; coverage {coverage} %"


# ----------------------------------------------------------------------------------------------------------- the rows


def rows(suite: str, full: bool) -> list[Row]:
    """The section's rows in the contract's order, after what sets up."""
    server = "prefect server start --host 127.0.0.1 --port $PORT"
    setting = "prefect config set PREFECT_API_URL=http://127.0.0.1:$PORT/api"
    flow = "python prefect/flows/training_pipeline.py"
    # Today's pip chooses the packages of a lock in a third of the processor time of the one that Python 3.11 brings, which `full` types.
    todays = "" if full else "--upgrade-deps "
    # A model that MLflow knows already is not recorded again, so that these rows train another, of fewer trees, and go back.
    back = (f"git checkout {CONFIG}", "dvc repro")
    other = (
        (
            '"$OTHER" -m venv "$SCRATCH"/other',
            '"$SCRATCH"/other/bin/pip install -r requirements.txt',
            '"$SCRATCH"/other/bin/pip install --no-deps -e .',
            '"$SCRATCH"/other/bin/pip check',
            '"$SCRATCH"/other/bin/python -c "import mlflow, prefect, dvc.repo, evidently, lightgbm, skl2onnx, onnxruntime, polars"',
        )
        if full
        else (
            '$PYTHON -m venv "$SCRATCH"/uv && "$SCRATCH"/uv/bin/pip install "uv==$(sed -n \'s/^UV_VERSION := //p\' Makefile)"',
            '"$SCRATCH"/uv/bin/uv pip install --dry-run --require-hashes --python-version $OTHER --target none -r requirements.txt',
        )
    )
    return [
        Row(
            "pip install -r requirements.txt",
            SECTION,
            "installs the locked set; hashes in it, no index lines",
            (f"$PYTHON -m venv {todays}.venv && . .venv/bin/activate", "pip install -r requirements.txt", "pip install --no-deps -e ."),
            set_up,
            within=900,
            installs=True,
        ),
        Row(
            "on Python 3.11 to 3.13",
            SECTION,
            "the locked set on Python 3.11 to 3.13",
            other,
            other_versions(full),
            within=1800,
            installs=True,
        ),
        Row(
            "make run",
            "README",
            "everything up to date from nothing; a second run does nothing; the tree stays clean",
            ('git clone . "$SCRATCH"/readme && cd "$SCRATCH"/readme', "make run", "make run", "git status --short"),
            readme_run,
            within=600,
            installs=True,
        ),
        Row(
            "dvc init",
            SECTION,
            "done once, committed",
            ("git ls-files .dvc dvc.yaml dvc.lock", "dvc remote list", "dvc init"),
            dvc_is_there,
            needs=("pip install -r requirements.txt",),
        ),
        Row(
            "dvc repro",
            SECTION,
            "the whole pipeline runs as a DVC pipeline from dvc.yaml; a second run does nothing",
            ("dvc repro", "dvc repro"),
            repro,
            needs=("pip install -r requirements.txt",),
        ),
        Row(
            "stage cache and local remote",
            SECTION,
            "DVC 3; stage cache and a local default remote",
            (
                "dvc push",
                "rm -r .dvc/cache/files models/artifacts/model",
                "dvc pull",
                'mv dvc.lock "$SCRATCH"',
                "dvc repro train",
                'mv "$SCRATCH"/dvc.lock .',
            ),
            dvc_storage,
            needs=("dvc repro",),
        ),
        Row(
            "pip install -r requirements-dev.txt",
            "README",
            "what tests and the two rows that need a cluster or PostgreSQL are run with",
            ("pip install -r requirements-dev.txt",),
            tests_parts,
            needs=("pip install -r requirements.txt",),
            within=900,
            installs=True,
        ),
        Row(
            "mlflow server",
            SECTION,
            "the tracking server the pipeline logs to; SQLite file by default",
            (
                "mlflow server --backend-store-uri sqlite:///mlflow/mlflow.db --default-artifact-root mlflow/artifacts --port $PORT",
                f"sed -i 's/n_estimators: 300$/n_estimators: 43/' {CONFIG}",
                f"MLFLOW_TRACKING_URI=http://127.0.0.1:$PORT python src/train.py --config {CONFIG}",
                *back,
            ),
            tracking_server,
            needs=("dvc repro",),
        ),
        Row(
            "mlflow server on PostgreSQL",
            SECTION,
            "PostgreSQL where it is set",
            (
                (
                    "python -c \"import pgserver, threading, pathlib, os; folder = pathlib.Path(os.environ['SCRATCH'], 'postgresql');"
                    " database = pgserver.get_server(folder); (folder / 'uri').write_text(database.get_uri('postgres'));"
                    ' threading.Event().wait()"'
                ),
                (
                    'mlflow server --backend-store-uri "${DATABASE/postgresql:/postgresql+psycopg:}" --default-artifact-root'
                    ' "$SCRATCH"/postgresql-artifacts --port $PORT'
                ),
                f"MLFLOW_TRACKING_URI=http://127.0.0.1:$PORT python src/train.py --config {CONFIG}",
            ),
            on_postgresql,
            needs=("dvc repro", "pip install -r requirements-dev.txt"),
        ),
        Row(
            "the flow on the embedded server",
            SECTION,
            "the same flows run with no PREFECT_API_URL set on the embedded server",
            (flow,),
            embedded,
            needs=("dvc repro",),
        ),
        Row(
            "prefect config set PREFECT_API_URL",
            SECTION,
            "the same flows run against a Prefect server",
            (server, setting, flow),
            config_set,
            needs=("dvc repro",),
        ),
        Row(
            "prefect deployment run",
            SECTION,
            "the registered deployment runs on a worker to completion; a process pool",
            (
                server,
                setting,
                "prefect work-pool create training-pool --type process",
                "prefect --no-prompt deploy --prefect-file prefect/deployments/prefect.yaml --all",
                "prefect worker start --pool training-pool",
                "prefect deployment run mlops-pipeline/training-deployment",
            ),
            deployment_run,
            needs=("dvc repro",),
            within=600,
        ),
        Row(
            "python src/train.py",
            SECTION,
            "trains outside any orchestrator, logs to MLflow",
            (f"sed -i 's/n_estimators: 300$/n_estimators: 44/' {CONFIG}", f"python src/train.py --config {CONFIG}", *back),
            train,
            needs=("dvc repro",),
        ),
        Row(
            "python src/evaluate.py",
            SECTION,
            "the same for evaluation",
            (f"python src/evaluate.py --config {CONFIG}", "python src/evaluate.py --config nowhere.yaml"),
            evaluate,
            needs=("dvc repro",),
        ),
        Row(
            "python src/predict.py",
            SECTION,
            "the same for batch prediction",
            (
                f'python src/predict.py --config {CONFIG} --input data/processed/flights.test.parquet --output "$SCRATCH"/predictions.csv',
                f'python src/predict.py --config {CONFIG} --input "$SCRATCH"/narrow.csv --output "$SCRATCH"/none.csv',
                f'python src/predict.py --config {CONFIG} --input "$SCRATCH"/broken.csv --output "$SCRATCH"/some.csv',
            ),
            predict,
            needs=("dvc repro",),
        ),
        Row(
            "kubectl apply",
            SECTION,
            "a Deployment, Service and what production needs around them",
            (
                'PYTHONPATH=. python "$SCRATCH"/cluster/api.py "$SCRATCH"/cluster',
                "kubernetes-validate --strict k8s/model-deployment.yaml",
                "kubectl apply --validate=false -f k8s/model-deployment.yaml",
                "kubectl apply --validate=false -f k8s/model-deployment.yaml",
                "docker build -f docker/Dockerfile.serve ${BASE_IMAGE:+--build-arg BASE_IMAGE=$BASE_IMAGE} -t $NAME .",
                (
                    "docker run -d --name $NAME --user $POD_USER --memory $MEMORY --read-only --tmpfs /tmp --cap-drop ALL --security-opt "
                    'no-new-privileges -v "$SCRATCH"/pod:/etc/mlops:ro -v "$SCRATCH"/pod:/run/secrets/mlops:ro -v "$PWD":"$PWD":ro '
                    "-p 127.0.0.1:$PORT:8000 $NAME $POD_COMMAND"
                ),
            ),
            kubectl_apply,
            needs=("dvc repro", "pip install -r requirements-dev.txt"),
            within=600,
            installs=True,
        ),
        Row(
            "mlflow models serve",
            SECTION,
            "the champion is served by MLflow's own server too; --env-manager local needs no download",
            (
                "mlflow models serve -m models/registry/best_model -p $PORT --env-manager local",
                "mlops serve --port $OTHER_PORT",
                "curl -sSf $URL/invocations -H 'Content-Type: application/json' -d @models/registry/best_model/serving_input_example.json",
            ),
            models_serve,
            needs=("dvc repro",),
        ),
        Row(
            "pytest",
            SECTION,
            promised(suite),
            (f"pytest {suite}",),
            pytest,
            needs=("pip install -r requirements-dev.txt",),
            within=4500,
            installs=True,
        ),
    ]
