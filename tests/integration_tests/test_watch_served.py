"""The server takes labels and shows what the watch's job has made: each for the keys that are good for it, and nothing it has not."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline.config.monitoring import Monitoring
from mlops_pipeline.monitoring.labels import ID, REQUEST, One
from mlops_pipeline.monitoring.state import Shown, state_at
from mlops_pipeline.serving.memory import FRESH_S, Memory
from tests.conftest import REPOSITORY, Project, unused_port, wait_for, write_table
from tests.integration_tests.clients import fetched
from tests.integration_tests.conftest import Server, postgresql_server, serving
from tests.integration_tests.receivers import alertmanager, alerts_at, answered_by, mail_server, prometheus, receiver
from tests.unit_tests.workshop import digest_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("monitoring_loop")]

ROWS = 300
SCOPES = ("predict", "labels", "monitoring")


@dataclass(frozen=True)
class Watched:
    """A server that asks for keys, the settings of its watch, and how one asks."""

    server: Server
    project: Project
    config: Path

    def ask(self, path: str, body: Any = None, scope: str = "", kind: str = "application/json", **headers: str) -> tuple[int, Any, Any]:
        """Status, content and headers."""
        known = {"Authorization": f"Bearer {scope}-key"} if scope else {}
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        known |= {} if data is None else {"Content-Type": kind}
        status, said, heads = fetched(urllib.request.Request(self.server.url + path, data, known | headers))
        return status, said.decode() if isinstance(said, bytes) else said, heads

    @property
    def state(self) -> Path:
        return self.server.folder / "state.sqlite"


@pytest.fixture(scope="module")
def watched(registered: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    digests = {scope: digest_of(f"{scope}-key") for scope in SCOPES}
    keys = {scope: {"digest": digest, "scopes": [scope]} for scope, digest in digests.items()}
    with serving(registered, folder, api_keys=keys, open_metrics=True, limits={"deadline_ms": 5000}, record={"mode": "durable"}) as server:
        config = folder / "monitoring_config.yaml"
        content = {
            **yaml.safe_load(config.read_text()),
            "serving": "serving.yaml",
            "windows": {"settle_s": 0, "least_rows": 1},
            "rules": {"few": {"figure": "rows", "below": 1000, "severity": "critical", "owner": "anna"}},
            "retraining": {"start": "nothing", "by": []},
        }
        config.write_text(yaml.safe_dump(content))
        yield Watched(server, registered, config)


def test_labels_are_on_disk_when_they_are_acknowledged(watched: Watched) -> None:
    records = [watched.server.example] * 3
    assert watched.ask("/predict", {"records": records, "ids": ["m0", "m1", "m2"]}, "predict", **{"X-Request-Id": "first"})[0] == 200
    body = {
        "labels": [
            {"request_id": "first", "row": 0, "label": 1},
            {"id": "m1", "late": "no", "time": "2013-01-01"},
            {"id": "m2", "label": None},
        ]
    }
    status, said, _ = watched.ask("/labels", body, "labels")
    assert (status, {name: said[name] for name in ("rows", "new", "known", "contradicting", "empty", "late")}) == (
        200, {"rows": 3, "new": 2, "known": 0, "contradicting": 0, "empty": 1, "late": 1},
    )  # fmt: skip
    with closing(sqlite3.connect(f"file:{watched.state}?mode=ro", uri=True)) as there:
        assert there.execute("SELECT kind, name, value FROM mlops_monitor_labels ORDER BY number").fetchall() == [
            ("request", "first", "1"), ("id", "m1", "0"),
        ]  # fmt: skip
        assert there.execute("SELECT who, origin FROM mlops_monitor_additions").fetchall() == [("labels", "POST /labels")]
    assert watched.ask("/labels", body, "labels")[1]["known"] == 2
    said = watched.ask("/labels", "id,late\nm1,1\nm2,0\n", "labels", "text/csv")[1]
    assert (said["new"], said["contradicting"]) == (1, 1)
    said = watched.ask("/labels", {"columns": {"id": ["m2"], "label": [False]}}, "labels")[1]
    assert (said["new"], said["known"]) == (0, 1)


def test_what_cannot_be_kept_is_refused_whole_in_one_line_a_row(watched: Watched) -> None:
    body = {"labels": [{"id": "good", "label": 1}, {"id": "bad", "label": "perhaps"}, {"label": 1}]}
    status, said, _ = watched.ask("/labels", body, "labels")
    assert (status, [error["row"] for error in said["errors"]]) == (422, [1, 2])
    assert "'label' is none of the values that late has (and 1 more)" in said["detail"]
    for bad, kind, wanted in (("{", "application/json", 400), ("x", "application/xml", 415), ("", "text/csv", 400)):
        assert watched.ask("/labels", bad, "labels", kind)[0] == wanted
    with closing(state_at(watched.state)) as state:
        assert "good" not in {label.name for label in state.labels_after(0, 0)}
    assert "perhaps" not in watched.server.log.read_text()


def test_each_key_is_good_for_its_own(watched: Watched) -> None:
    body = {"labels": [{"id": "x", "label": 1}]}
    assert [watched.ask("/labels", body, scope)[0] for scope in ("", "predict", "monitoring")] == [401, 403, 403]
    assert [watched.ask("/monitoring", scope=scope)[0] for scope in ("", "predict", "labels")] == [401, 403, 403]
    assert watched.ask("/labels", scope="labels")[0] == 405
    assert watched.ask("/labels", body, "labels", Origin="http://elsewhere.example")[0] == 403


def test_the_page_and_the_figures_are_those_of_the_last_run(watched: Watched) -> None:
    status, said, _ = watched.ask("/monitoring", scope="monitoring")
    assert (status, "`mlops monitor run` does" in said["detail"]) == (404, True)
    status, page, headers = watched.ask("/release", scope="monitoring")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8"), "whoever has begun none has made no mistake"
    assert "<code>mlops release start VERSION</code> begins one" in page
    assert "mlops_monitor" not in watched.ask("/metrics")[1]
    figures = watched.server.folder / "figures.prom"
    assert watched.ask("/predict", {"records": [watched.server.example]}, "predict")[0] == 200
    rows = sum(float(line.split()[-1]) for line in watched.ask("/metrics")[1].splitlines() if line.startswith("mlops_rows_total{"))
    watched.project.mlops("monitor", "run", "--close", "--config", str(watched.config), "--metrics", str(figures))
    wait_for(lambda: watched.ask("/monitoring", scope="monitoring")[0] == 200, 60, "the page of the run")
    _, page, headers = watched.ask("/monitoring", scope="monitoring")
    assert "Watch of small" in page
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Last-Modified"]
    by_browser = base64.b64encode(b"anybody:monitoring-key").decode()
    assert watched.ask("/monitoring", Authorization=f"Basic {by_browser}")[1] == page
    assert watched.ask("/status", Authorization=f"Basic {by_browser}")[0] == 401
    assert "Basic" in " ".join(watched.ask("/monitoring")[2].get_all("WWW-Authenticate"))
    scraped = watched.ask("/metrics")[1]
    assert figures.read_text() in scraped
    assert f'mlops_monitor_figure{{figure="rows",model="champion",pipeline="small",version="1"}} {rows}' in scraped
    assert 'mlops_monitor_rule_broken{model="champion",pipeline="small",rule="few",severity="critical"} 1.0' in scraped
    assert "mlops_labels_total" in scraped


def test_an_alert_reaches_alertmanager_by_both_ways_as_one_and_its_mail_comes(watched: Watched, tmp_path: Path) -> None:
    """From requests and labels over the job's memory and the server's figures to a real Prometheus, Alertmanager and a mailbox."""
    write_table(tmp_path / "table.csv", rows=ROWS, seed=1)
    table = pl.read_csv(tmp_path / "table.csv").with_columns(pl.col("weight").abs())
    ids = [f"row-{number}" for number in range(ROWS)]
    assert watched.ask("/predict", {"records": table.select("size", "weight", "kind").to_dicts(), "ids": ids}, "predict")[0] == 200
    days = [f"2024-03-{1 + number % 20:02}" for number in range(ROWS)]  # of fewer the probe is not asked
    came = pl.DataFrame({"id": ids, "late": table["late"], "time": days}).write_csv()
    assert watched.ask("/labels", came, "labels", "text/csv")[1]["new"] == ROWS
    mlops, given = watched.project.mlops, ("--config", str(watched.config))
    rules = mlops("monitor", "rules", *given).stdout
    port = unused_port()
    content = yaml.safe_load(watched.config.read_text())
    channel = {"alertmanager": {"settings": {"url": f"http://127.0.0.1:{port}", "repeat_s": 1e-6}}}
    with receiver() as hook, mail_server() as mailbox:

        def mails() -> list[str]:
            return ["RESOLVED" if "RESOLVED" in str(mail["Subject"]) else "FIRING" for mail in mailbox.messages]

        with (
            alertmanager(tmp_path / "am", hook.url, port, mailbox.port) as holder,
            prometheus(tmp_path / "prometheus", watched.server.url, holder, rules) as asked,
        ):
            watched.config.write_text(yaml.safe_dump({**content, "channels": channel}))
            mlops("monitor", "run", "--close", *given)
            # The job posts it; Prometheus comes to the same, under the same labels.
            wait_for(lambda: len(answered_by(asked, 'ALERTS{alertname="few", alertstate="firing"}')) == 1, 60, "the alert of Prometheus")
            wait_for(lambda: mails() == ["FIRING"], 60, "its mail")
            [held] = alerts_at(holder)
            assert held["labels"] == {
                "alertname": "few", "severity": "critical", "owner": "anna", "pipeline": "small", "model": "champion",
            }  # fmt: skip
            dashboard = json.loads((REPOSITORY / "docker/grafana/dashboards/monitoring.json").read_text())
            for panel in dashboard["panels"]:
                for target in panel["targets"]:
                    expression = target["expr"].replace("$__rate_interval", "1m")
                    wait_for(lambda expression=expression: answered_by(asked, expression), 60, f"a figure for {expression}")
        # It forgets alerts when it is started anew; nobody else does.
        with alertmanager(tmp_path / "another", hook.url, port, mailbox.port) as holder:
            assert not alerts_at(holder)
            mlops("monitor", "run", *given)
            assert [one["labels"]["alertname"] for one in alerts_at(holder)] == ["few"]
            watched.config.write_text(
                yaml.safe_dump({**content, "channels": channel, "rules": {"few": {**content["rules"]["few"], "below": 0}}})
            )
            # A window says that it is well.
            assert watched.ask("/predict", {"records": [watched.server.example]}, "predict")[0] == 200
            mlops("monitor", "run", "--close", *given)
            wait_for(lambda: mails()[-1] == "RESOLVED", 60, "the mail of its end")
            assert not alerts_at(holder)
    watched.config.write_text(yaml.safe_dump(content))


def test_a_memory_that_is_away_is_a_reason_and_comes_back(watched: Watched) -> None:
    """The same labels are kept once it is there."""
    with closing(sqlite3.connect(watched.state, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        status, said, headers = watched.ask("/labels", {"labels": [{"id": "held", "label": 1}]}, "labels")
        assert (status, said["type"], headers["Retry-After"]) == (503, "/docs#labels_not_kept", "1")
        assert watched.ask("/predict", {"records": [watched.server.example]}, "predict")[0] == 200
        other.execute("ROLLBACK")
    wait_for(lambda: watched.ask("/labels", {"labels": [{"id": "held", "label": 1}]}, "labels")[1].get("known") == 1, 60, "its label")


def test_in_postgresql_labels_are_kept_though_its_connections_are_ended() -> None:
    """As a server of databases, or what stands before it, does with those that are long idle."""
    with postgresql_server() as server:
        server.psql("create database watch;")
        settings = Monitoring.model_validate({"state": {"uri": str(server.get_uri("watch"))}})
        memory = Memory(settings, Path("unused"), None)
        labels = [One(ID, "a", 0, 1, 5.0), One(REQUEST, "b", 2, "x\0y")]

        async def twice() -> list[dict[str, int]]:
            first = await memory.add(labels, 1, "anna", 30)
            assert await memory.shown("metrics") is None
            others = "datname = 'watch' and pid <> pg_backend_pid()"
            with closing(state_at(Path("unused"), settings.state.uri)) as state:
                with state.writing():
                    state.show("metrics", "figures", 3.0)
                state.database.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608  # our own words
            again = await memory.add(labels, 0, "anna", 30)
            memory._looked = -FRESH_S  # as after some seconds
            assert await memory.shown("metrics") == Shown(3.0, "figures")
            server.psql("alter database watch with allow_connections false;")
            with closing(state_at(Path("unused"), str(server.get_uri("postgres")))) as state:
                state.database.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'watch'")
            memory._looked = -FRESH_S
            assert await memory.shown("metrics") == Shown(3.0, "figures"), "what was told last, or every alert would seem to end"
            assert memory._is_away
            return [first.counts, again.counts]

        first, again = asyncio.run(twice())
        memory.close()
        assert (first["new"], first["empty"], first["late"], again["new"], again["known"]) == (2, 1, 1, 0, 2)
