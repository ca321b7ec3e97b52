"""What Prometheus is told of the watch, the rules that ask for it, and the dashboard: one set of names, tried by Prometheus's own tools."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.config.monitoring import Rule
from mlops_pipeline.monitoring.exposed import newest, text_of
from mlops_pipeline.monitoring.prometheus_rules import condition, rendered_rules
from mlops_pipeline.monitoring.rules import Terms
from mlops_pipeline.monitoring.state import Shown, Window, state_at
from mlops_pipeline.monitoring.watched import watched
from tests.conftest import REPOSITORY, lacking

RULES_FILE = REPOSITORY / "docker/prometheus/monitoring_rules.yml"


def window(number: int, version: str = "1", **figures: float | None) -> Window:
    named = {name.replace("__", "."): value for name, value in figures.items()}
    return Window(number, "m", version, number * 10.0, number * 10.0 + 10, 1, 0, stale=False, enough=True, figures=named, measured="")


def test_a_figure_is_that_of_the_newest_window_that_has_it_with_its_own_interval() -> None:
    windows = [
        window(1, quality__auc=0.8, quality__auc__low=0.7, quality__auc__high=0.9, rows=5.0),
        window(2, quality__auc=0.6, rows=7.0, drift__share=None),
    ]
    assert newest(windows) == {"quality.auc": 0.6, "rows": 7.0}


def test_every_sample_reads_back_whatever_names_are_in_it() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    rules = {'a"b\\c': Rule(figure="rows", below=1, severity="info"), "fell": Rule(figure="quality", worsens_by=0.1)}
    windows = [window(1, "1", rows=9.0), window(2, "2", rows=3.0, quality__auc=0.5)]
    text = text_of("p\nq", {"m": windows, "empty": []}, {("m", "2"): 9000}, rules, {("m", "fell")}, {"ops": 2}, 77.5)
    samples = {
        (s.name, *(s.labels.get(key, "") for key in ("model", "version", "figure", "rule", "channel"))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.labels["pipeline"] == "p\nq"
    }
    assert samples == {
        ("mlops_monitor_figure", "m", "2", "rows", "", ""): 3.0,
        ("mlops_monitor_figure", "m", "2", "quality.auc", "", ""): 0.5,
        ("mlops_monitor_window_end_seconds", "m", "2", "", "", ""): 30.0,
        ("mlops_monitor_judged_end_seconds", "m", "2", "", "", ""): 30.0,
        ("mlops_monitor_windows", "m", "2", "", "", ""): 9000.0,
        ("mlops_monitor_rule_broken", "m", "", "", 'a"b\\c', ""): 0.0,
        ("mlops_monitor_rule_broken", "m", "", "", "fell", ""): 1.0,
        ("mlops_monitor_rule_broken", "empty", "", "", 'a"b\\c', ""): 0.0,
        ("mlops_monitor_rule_broken", "empty", "", "", "fell", ""): 0.0,
        ("mlops_monitor_undelivered", "", "", "", "", "ops"): 2.0,
        ("mlops_monitor_run_seconds", "", "", "", "", ""): 77.5,
    }


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(figure="rows", below=1), "below 1"),
        (Rule(figure="probe.gain", above=0.01, and_surely=0, windows=2), "above 0.01, surely above 0 in 2 windows in a row"),
        (
            Rule(figure="quality", worsens_by=0.04, relative=True, surely=True),
            "a rise by more than 4 % beside the held-out rows, by the whole of its interval",
        ),
        (Rule(figure="rows", falls_by=5, against=3), "a fall by more than 5 beside the mean of the 3 windows before"),
    ],
)
def test_when_a_rule_is_broken_is_said_in_words(rule: Rule, words: str) -> None:
    assert condition(rule, Terms("rmse", lower_is_better=True, reference={})) == words


def promtool(*words: str, folder: Path) -> str:
    program = shutil.which("promtool")
    if program is None:
        lacking("promtool", "make system")
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_for_prometheus_are_those_of_the_settings_and_fire_while_the_job_holds_them_broken(tmp_path: Path) -> None:
    config = REPOSITORY / "configs/monitoring_config.yaml"
    written = rendered_rules(watched(config), "2d", 172_800)
    assert written == RULES_FILE.read_text(), f"run `mlops monitor rules --output {RULES_FILE.relative_to(REPOSITORY)}` and commit it"
    odd = tmp_path / "odd"
    odd.mkdir()
    rules = {
        "odd.rule-1": {
            "figure": "rows",
            "below": 1,
            "text": 'see {{ $labels.x }} "here"',
            "owner": "ann{{a}}",
            "runbook": "https://x/y?z",
        }
    }
    (odd / "monitoring.yaml").write_text(
        yaml.safe_dump(
            {"pipeline": str(config.parent / "training_config.yaml"), "serving": str(config.parent / "serving_config.yaml"), "rules": rules}
        )
    )
    (tmp_path / "odd.yml").write_text(rendered_rules(watched(odd / "monitoring.yaml"), "1h", 3600))
    (tmp_path / "rules.yml").write_text(written)
    broken, figure = "mlops_monitor_rule_broken", "mlops_monitor_figure"
    who = 'pipeline="flights", model="champion"'

    def fired(name: str, when: str, *alerts: dict[str, Any]) -> dict[str, Any]:
        return {"alertname": name, "eval_time": when, "exp_alerts": list(alerts)}

    labels = {"pipeline": "flights", "model": "champion"}
    fell = {
        "exp_labels": {**labels, "severity": "warning"},
        "exp_annotations": {
            "summary": "flights champion: quality_fell",
            "description": "quality.roc_auc is 0.62; wrong is a fall by more than 4 % beside the held-out rows, "
            "by the whole of its interval",
        },
    }
    silent = {
        "exp_labels": {"pipeline": "flights", "severity": "warning"},
        "exp_annotations": {
            "summary": "flights: `mlops monitor run` has not run for 2d",
            "description": "The last was 3d 0h 0m 0s ago: no window has been counted since, whatever is wrong",
        },
    }
    untold = {
        "exp_labels": silent["exp_labels"],
        "exp_annotations": {
            "summary": "flights: nobody tells of any `mlops monitor run`",
            "description": "It has never run, or no server that reads its memory is scraped: nobody hears of it, whatever is wrong",
        },
    }
    strange = {
        "exp_labels": {**labels, "severity": "warning", "owner": "ann{{a}}"},
        "exp_annotations": {
            "summary": "flights champion: odd.rule-1",
            "description": "rows is 0; wrong is below 1",
            "note": 'see {{ $labels.x }} "here"',
            "runbook_url": "https://x/y?z",
        },
    }
    odd_name = '"odd.rule-1"'
    series = [
        # Two servers share one memory, and tell the same.
        *(
            {"series": f'{broken}{{{who}, rule="quality_fell", severity="warning", instance="{at}"}}', "values": "0x30 1x60 0x60"}
            for at in "ab"
        ),
        *(
            {"series": f'{figure}{{{who}, version="{v}", figure="quality.roc_auc", instance="{at}"}}', "values": "0.62x150"}
            for at, v in ("a1", "b1")
        ),
        {"series": f'{broken}{{{who}, rule="no_requests", severity="warning", instance="a"}}', "values": "0x150"},
        {"series": f'{broken}{{{who}, rule={odd_name}, severity="warning", instance="a"}}', "values": "1x150"},
        {"series": f'{figure}{{{who}, version="1", figure="rows", instance="a"}}', "values": "0x150"},
        {"series": 'mlops_monitor_run_seconds{pipeline="flights", instance="a"}', "values": "0x5000"},
    ]

    def tried(rules_file: str, interval: str, series: list[dict[str, str]], *alerts: dict[str, Any]) -> str:
        """A file for `promtool test rules`."""
        test = {"interval": interval, "input_series": series, "alert_rule_test": list(alerts)}
        content = {"rule_files": [rules_file], "evaluation_interval": interval, "tests": [test]}
        (tmp_path / f"{interval}-{rules_file}").write_text(yaml.safe_dump(content))
        return f"{interval}-{rules_file}"

    promtool("check", "rules", "rules.yml", "odd.yml", folder=tmp_path)
    promtool(
        "test",
        "rules",
        tried(
            "rules.yml",
            "1m",
            series,
            fired("quality_fell", "20m"),
            fired("quality_fell", "60m", fell),
            fired("quality_fell", "100m"),
            fired("no_requests", "60m"),
            fired("watch_is_silent", "60m"),
        ),
        tried("rules.yml", "1h", series[-1:], fired("watch_is_silent", "48h"), fired("watch_is_silent", "72h", silent)),
        tried("rules.yml", "5m", series[:1], fired("watch_is_silent", "10m"), fired("watch_is_silent", "30m", untold)),
        tried("odd.yml", "1m", series, fired("odd.rule-1", "60m", strange)),
        folder=tmp_path,
    )


def test_what_is_shown_is_the_last_and_a_memory_of_before_can_show_too(tmp_path: Path) -> None:
    with closing(state_at(tmp_path / "state.sqlite")) as before, before.writing():
        before.database.ask("DROP TABLE mlops_monitor_shown")
        before.database.ask("PRAGMA user_version = 1")
    with closing(state_at(tmp_path / "state.sqlite")) as state:
        assert (state.shown("metrics"), state.shown_names()) == (None, {})
        with state.writing():
            state.show("metrics", "first", 1.0)
            state.show("metrics", "second", 2.0)
        assert state.shown("metrics") == Shown(2.0, "second")
        assert state.shown_names() == {"metrics": 2.0}
