"""The contract's «Python interfaces», called from a few lines of Python as a user writes them."""

from __future__ import annotations

import json
import random
import re
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceptance.commands import prefect_home, summary
from acceptance.promises import Row, expect
from acceptance.session import Session

SECTION = "Interfaces"
FIVE_ROWS = "feature_1,feature_2,target\n1.0,10,0\n2.5,20,1\n3.0,30,0\n4.5,40,1\n5.0,50,0\n"

TASKS = """\
import os
from pathlib import Path
from prefect import flow
from training_pipeline import load_data, preprocess_data, train_model, validate_data

config, table = "configs/by_hand.yaml", Path(os.environ["SCRATCH"], "by_hand.csv")

@flow
def by_hand():
    states = [load_data(config, None, return_state=True) for _ in range(2)]
    table.write_text(table.read_text() + "9.5,9.5,1\\n")
    states += [load_data(config, None, return_state=True) for _ in range(2)]
    print("LOADED", *(state.name for state in states))
    validate_data(config, None)
    print("SPLIT", preprocess_data(config, None))
    print("TRAINED", train_model(config, None))

by_hand()
"""

REPORT = """\
import os, sys
sys.path.append("src")
import pandas as pd
from monitoring import create_model_monitoring_report

there = os.environ["SCRATCH"]
reference, current = (pd.read_csv(f"{there}/{name}.csv") for name in ("reference", "current"))
report = create_model_monitoring_report(reference, current)
report.save_html(f"{there}/report.html")
report.save_json(f"{there}/report.json")
"""


def with_a_table(at: Session, line: str, look: str) -> str:
    prefect_home(at, "prefect-interfaces")
    (at.scratch / "five.csv").write_text(FIVE_ROWS, encoding="utf-8")
    done = at.type(line)
    path = Path(done.out.splitlines()[-1])
    expect(path == at.scratch / "saved/model" and (path / "MLmodel").is_file(), f"it returned {path}, where no model is")
    warning = re.search(r"[^|\n]*no split of that size proves anything[^|\n]*", done.said)
    expect(warning, "it does not warn of five rows")
    logged = json.loads(at.type(look).out.splitlines()[-1])
    expect(logged and logged[0][0] > 0 and logged[0][1] > 0, f"MLflow holds parameters and metrics {logged}")
    counts = f"{logged[0][0]} parameters and {logged[0][1]} metrics"
    return f"returned saved/model, which holds an MLmodel; {counts} in MLflow; it warns of five rows"


def with_nothing(at: Session, line: str, load: str) -> str:
    prefect_home(at, "prefect-interfaces")
    path = at.type(line).out.splitlines()[-1]
    expect(path == str(at.folder / "models/registry/best_model"), f"it returned {path}")
    classes = at.type(load).out.splitlines()[-1]
    expect(classes == "(3, 2)", f"the model at that path answers in the shape {classes}")
    return "returned models/registry/best_model; mlflow.pyfunc loads it and it predicts 3 rows in 2 classes"


def tasks(at: Session, init: str, line: str) -> str:
    prefect_home(at, "prefect-interfaces")
    numbers = random.Random(0)  # noqa: S311  # a table for a test
    lines = ["size,weight,target"]
    for _ in range(200):
        size = round(numbers.gauss(0, 1), 4)
        lines.append(f"{size},{round(numbers.gauss(10, 3), 4)},{int(size + numbers.gauss(0, 1) > 0)}")
    (at.folder / "configs/by_hand.yaml").unlink(missing_ok=True)
    (at.scratch / "by_hand.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (at.scratch / "tasks.py").write_text(TASKS, encoding="utf-8")
    try:
        at.type(init)
        said = dict(re.findall(r"^(LOADED|SPLIT|TRAINED) (.+)$", at.type(line).out, re.MULTILINE))
        expect(said["LOADED"] == "Completed Cached Completed Cached", f"load_data ended as {said['LOADED']}")
        for name in ("SPLIT", "TRAINED"):
            expect(Path(said[name]).exists(), f"{said[name]} is not there")
        expect((Path(said["TRAINED"]) / "MLmodel").is_file(), "train_model made no model")
    finally:
        # It stopped half-way on purpose, which `dvc pull` would take amiss.
        shutil.rmtree(at.folder / "pipelines/by_hand", ignore_errors=True)
    return (
        "load_data: Completed, Cached, with one row more Completed, then Cached; "
        f"preprocess_data made {Path(said['SPLIT']).name}, train_model a model folder"
    )


@dataclass(frozen=True)
class Side:
    """What a report has to say of one of two tables."""

    rows: int
    median: float
    missing: int
    accuracy: float


def two_tables(at: Session) -> dict[str, Side]:
    """Write reference.csv and current.csv; what a report of them has to say, computed here."""
    numbers = random.Random(1)  # noqa: S311  # a table for a test
    sides = {}
    for name, shift in (("reference", 0.0), ("current", 0.8)):
        columns = [(round(numbers.gauss(shift, 1), 4), round(numbers.gauss(5, 1), 4)) for _ in range(801)]
        came, said = [int(a + numbers.gauss(0, 0.7) > 0) for a, _ in columns], [int(a > 0) for a, _ in columns]
        lines = ["feature_1,feature_2,target,prediction"]
        lines += [f"{a},{b if i % 10 else ''},{came[i]},{said[i]}" for i, (a, b) in enumerate(columns)]
        (at.scratch / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        right = statistics.mean(a == b for a, b in zip(came, said, strict=True))
        sides[name] = Side(len(columns), statistics.median(a for a, _ in columns), len(range(0, len(columns), 10)), right)
    return sides


def as_computed(summary: Any, sides: dict[str, Side]) -> str:
    """That a report's summary says what was computed here, in words."""
    quantile, accuracy, missing = summary["quantile"], summary["quality"]["accuracy"], summary["columns"]["feature_2"]["missing"]
    expect(quantile["column"] == "feature_1" and quantile["quantile"] == 0.5, f"the quantile is {quantile}")
    for name, side in sides.items():
        for what, found, own in (
            ("number of rows", summary["rows"][name], side.rows),
            ("median", quantile[name], side.median),
            ("count of missing values", missing[name], side.missing),
            ("accuracy", accuracy[name], side.accuracy),
        ):
            expect(abs(found - own) < 1e-9, f"the {what} of the {name} is {found}, not {own}")
    one, two = sides["reference"], sides["current"]
    return (
        f"as computed here: medians of feature_1 {one.median:.4f} and {two.median:.4f}, accuracy {one.accuracy:.3f} and "
        f"{two.accuracy:.3f}, {one.missing} values of feature_2 missing"
    )


def report(at: Session, line: str) -> str:
    sides = two_tables(at)
    (at.scratch / "report.py").write_text(REPORT, encoding="utf-8")
    at.type(line)
    page = (at.scratch / "report.html").read_text(encoding="utf-8")
    expect("<html" in page.lower() and len(page) > 10_000, "the page is none")
    content = json.loads((at.scratch / "report.json").read_text(encoding="utf-8"))
    names = " ".join(metric["metric_name"] for metric in content["metrics"])
    for metric in ("DriftedColumnsCount", "MissingValue", "Accuracy", "QuantileValue"):
        expect(metric in names, f"the report has no {metric}: {names[:300]}")
    return f"HTML of {len(page) / 1e6:.1f} MB and JSON with drift; {as_computed(content['summary'], sides)}"


def report_of(folder: Path) -> tuple[int, Any]:
    """The length of a report's page and the summary in its JSON, both there."""
    page, content = folder / "report.html", folder / "report.json"
    expect(page.is_file() and content.is_file(), f"{folder.name}/ lacks report.html or report.json")
    text = page.read_text(encoding="utf-8")
    expect("<html" in text.lower() and len(text) > 10_000, "the page is none")
    return len(text), json.loads(content.read_text(encoding="utf-8"))["summary"]


def front_door_of_monitoring(at: Session, line: str) -> str:
    sides = two_tables(at)
    at.type(line)
    length, found = report_of(at.scratch / "monitoring")
    return f"HTML of {length / 1e6:.1f} MB and JSON; {as_computed(found, sides)}; drifted: {', '.join(found['drifted_columns'])}"


def a_month(at: Session, line: str, look: str) -> str:
    folder = at.folder / "data/monitoring"
    shutil.rmtree(folder, ignore_errors=True)
    at.type(line)
    length, found = report_of(folder)
    rows, median = json.loads(at.type(look).out.splitlines()[-1])
    expect(found["rows"]["current"] == rows, f"it compares {found['rows']['current']} rows, the month has {rows}")
    expect(found["quantile"]["column"] == "distance", f"the quantile is of {found['quantile']['column']}")
    expect(abs(found["quantile"]["current"] - median) < 1e-9, f"the median is {found['quantile']['current']}, the month's {median}")
    drifted, quality = found["drifted_columns"], found["quality"]["roc_auc"]
    return (
        f"HTML of {length / 1e6:.1f} MB and JSON; {rows:,} flights with median distance {median:g}, as the table has; {len(drifted)} of "
        f"{len(found['columns'])} columns drifted; roc_auc {quality['reference']:.4f} → {quality['current']:.4f}"
    )


def features_state(at: Session, refresh: str, show: str, for_a_program: str) -> str:
    said = at.type(refresh).out
    expect("no file of the source is new, or has changed" in said, f"with nothing new, a refresh says {said!r}")
    facts = json.loads(at.type(for_a_program).out)
    shown = at.type(show).out
    expect(facts["version"] in said and facts["version"] in shown, f"{facts['version']} is not the version that was refreshed and shown")
    made = [name for table in facts["tables"] for name in table["columns"]]
    expect(made and all(name in shown for name in made), f"of {made} not all are shown")
    keys = max(table["keys"] for table in facts["tables"])
    return (
        f"{facts['version']} as of {facts['as_of']}: {len(made)} columns, up to {keys:,} keys, {facts['bytes'] / 1e6:.1f} MB; nothing new"
    )


def online_test(at: Session, plan: str, report: str) -> str:
    # Of 2,000 units an arm, every tenth buys in A and three of ten in B.
    rows = [f"{'AB'[k % 2]},{k},{int(k // 2 % 10 < 1 + 2 * (k % 2))}" for k in range(4000)]
    (at.scratch / "outcomes.csv").write_text("variant,user,bought\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = {"name": "acceptance", "arms": {"A": 0.5, "B": 0.5}, "arm": "variant", "unit": "user"}
    settings["metrics"] = {"bought": {"column": "bought", "least_effect": 0.1}}
    (at.scratch / "test.yaml").write_text(json.dumps(settings), encoding="utf-8")
    (planned,) = json.loads(at.type(plan).out)
    expect(planned["fixed_units"] < planned["units"] < 4000, f"it plans {planned['units']} units, and {planned['fixed_units']} at one look")
    judged = json.loads(at.type(report).out)
    (metric,) = judged["metrics"]
    expect((judged["verdict"], judged["arm"]) == ("treatment", "B"), f"it says {judged['verdict']} {judged['arm']}")
    expect(metric["low"] < 0.2 < metric["high"], f"0.2 is not within {metric['low']} to {metric['high']}")
    page = (at.scratch / "test.html").read_text(encoding="utf-8")
    expect("<html" in page.lower() and (at.scratch / "test.json").is_file(), "there is no page, or no JSON beside it")
    found = f"take B, better by {metric['low']:.3f} to {metric['high']:.3f}"
    return f"{planned['units']:,} units planned; {found}; page of {len(page) / 1e3:.0f} kB"


def rendered_release(at: Session, line: str) -> str:
    said = at.type(line).out
    expect(
        "kind: AnalysisTemplate" in said and "/release.json" in said and "setWeight: 5" in said, "no analysis, or not the policy's steps"
    )
    return "an AnalysisTemplate that asks /release.json, and the policy's weights as a Rollout's steps"


def two_releases(at: Session, line: str) -> str:
    at.type(line)
    folder = at.scratch / "released"
    better, worse = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    steps = [each["step"] for each in better["transitions"]]
    expect(better["state"] == "promoted" and steps[:3] == ["shadow", "5 %", "25 %"], f"the better one is {better['state']} by {steps}")
    expect(worse["state"] == "aborted" and "quality" in worse["reason"], f"the worse one is {worse['state']}: {worse['reason']}")
    expect((folder / "release.png").read_bytes().startswith(b"\x89PNG"), "the picture is none")
    expect("thrown out" in (folder / "release.html").read_text(encoding="utf-8"), "the page does not say what became of the last")
    return f"version 2 champion after {better['rows']:,} rows, version 3 thrown out of {worse['step']} after {worse['rows']:,}"


def told_of(at: Session, line: str) -> str:
    said = " ".join(at.type(line).out.split())
    expect("--output" in said and "--folder" in said, "it does not name its options")
    return "it is there, with --output and --folder; its minutes are not run here"


def one_test(at: Session, line: str) -> str:
    counts, _ = summary(at.type(line).out)
    expect(counts == {"passed": 1}, f"it is not one test that passed: {counts}")
    return "1 passed"


def rows() -> list[Row]:
    """The section's rows in the contract's order."""
    called = "PYTHONPATH=prefect/flows python -c 'from training_pipeline import training_pipeline;"
    needs = ("dvc repro",)
    return [
        Row(
            "training_pipeline(data_path, …)",
            SECTION,
            "load, clean, split, train, evaluate, log parameters and metrics to MLflow, save the model, return its path",
            (
                (
                    f'{called} import os; there = os.environ["SCRATCH"];'
                    ' print(training_pipeline(f"{there}/five.csv", f"{there}/saved/model"))\''
                ),
                (
                    'python -c \'import json, mlflow; mlflow.set_tracking_uri("sqlite:///mlflow/mlflow.db");'
                    ' runs = mlflow.search_runs(experiment_names=["five"], output_format="list");'
                    " print(json.dumps([[len(run.data.params), len(run.data.metrics)] for run in runs]))'"
                ),
            ),
            with_a_table,
            needs,
        ),
        Row(
            "training_pipeline()",
            SECTION,
            "both arguments optional beyond the configuration file",
            (
                f"{called} print(training_pipeline())'",
                (
                    'python -c \'import mlflow.pyfunc as m; p = "models/registry/best_model"; model = m.load_model(p);'
                    " print(model.predict(model.input_example).shape)'"
                ),
            ),
            with_nothing,
            needs,
        ),
        Row(
            "load_data, preprocess_data, train_model",
            SECTION,
            "tasks; load_data cached by the content of its input for an hour",
            (
                'mlops init --input "$SCRATCH"/by_hand.csv --target target --output configs/by_hand.yaml',
                'PYTHONPATH=prefect/flows python "$SCRATCH"/tasks.py',
            ),
            tasks,
            needs,
        ),
        Row(
            "create_model_monitoring_report",
            SECTION,
            "missing values, drift, classification quality, the 0.5 quantile of feature_1; saves as HTML and JSON",
            ('python "$SCRATCH"/report.py',),
            report,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "python src/monitoring.py",
            "README",
            "any two tables compared: a page and JSON",
            (
                (
                    'python src/monitoring.py --reference "$SCRATCH"/reference.csv --current "$SCRATCH"/current.csv'
                    ' --output "$SCRATCH"/monitoring'
                ),
            ),
            front_door_of_monitoring,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "mlops monitor report",
            "README",
            "drift, missing values and quality of new rows beside the old",
            (
                "mlops monitor report --current 2013-10",
                (
                    'python -c \'import json, polars as pl; d = pl.read_parquet("data/raw/flights.parquet").filter(pl.col("month") == 10);'
                    ' print(json.dumps([d.height, d["distance"].median()]))\''
                ),
            ),
            a_month,
            needs,
        ),
        Row(
            "mlops features refresh",
            "README",
            "the features' state is brought up to date, each row once; show tells what it holds, --json for a program",
            ("mlops features refresh", "mlops features show", "mlops features show --json"),
            features_state,
            needs,
        ),
        Row(
            "mlops experiment plan, report",
            "README",
            "how many units an online test needs, and what it says so far: a page and JSON",
            (
                'mlops experiment plan --config "$SCRATCH"/test.yaml --input "$SCRATCH"/outcomes.csv --json',
                (
                    'mlops experiment report --config "$SCRATCH"/test.yaml --input "$SCRATCH"/outcomes.csv'
                    ' --output "$SCRATCH"/test.html --json'
                ),
            ),
            online_test,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "mlops demo year",
            "README",
            "a year of flights through a real server: never retrained, the loop, every month (its help only: it takes minutes)",
            ("mlops demo year --help",),
            told_of,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "mlops demo release",
            "README",
            "a better challenger becomes champion under replayed flights, a worse one is thrown out, with a picture and the page",
            ('mlops demo release --output "$SCRATCH"/released',),
            two_releases,
            ("pip install -r requirements.txt",),
            within=1800,
        ),
        Row(
            "mlops release render",
            "README",
            "the policy of a release as Argo Rollouts reads it, an analysis that asks the server's verdict",
            ("mlops release render rollouts",),
            rendered_release,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "a pipeline test",
            SECTION,
            "five rows through training_pipeline under prefect_test_harness, the model's path back",
            (
                (
                    "pytest --no-cov tests/integration_tests/test_prefect_flow.py"
                    "::test_five_rows_train_into_a_model_that_loads_with_a_warning_in_the_log"
                ),
            ),
            one_test,
            ("pip install -r requirements.txt",),
        ),
        Row(
            "a registration test",
            SECTION,
            'a scikit-learn model with registered_model_name="example-model" comes back by its URI and predicts',
            (
                (
                    "pytest --no-cov tests/integration_tests/test_registration.py"
                    "::test_a_registered_scikit_learn_model_loads_by_its_address_and_predicts"
                ),
            ),
            one_test,
            ("pip install -r requirements.txt",),
        ),
    ]
