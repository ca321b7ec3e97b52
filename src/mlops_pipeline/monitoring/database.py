"""The tables of the watching job: in a SQLite file, or in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from mlops_pipeline import database
from mlops_pipeline.config.addresses import resolved
from mlops_pipeline.database import Database

VERSION = 3
"""1: without what the job shows; 2: without the order of windows that were counted late."""

TABLES = """
CREATE TABLE IF NOT EXISTS mlops_monitor_windows (
    number {serial}, model TEXT NOT NULL, version TEXT NOT NULL, since {real} NOT NULL, until {real} NOT NULL, made {real} NOT NULL,
    requests BIGINT NOT NULL, rows BIGINT NOT NULL, labels BIGINT NOT NULL, labels_until BIGINT NOT NULL, stale INTEGER NOT NULL,
    enough INTEGER NOT NULL, figures TEXT NOT NULL, measured TEXT NOT NULL, keys {blob} NOT NULL, UNIQUE (model, since, version)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_places (number BIGINT PRIMARY KEY, place BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_monitor_ends (model TEXT PRIMARY KEY, until {real} NOT NULL);
CREATE TABLE IF NOT EXISTS mlops_monitor_labels (
    number {serial}, kind TEXT NOT NULL, name TEXT NOT NULL, place BIGINT NOT NULL, moment {real} NOT NULL, value TEXT NOT NULL,
    happened {real}, received {real} NOT NULL, UNIQUE (kind, name, place, moment)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_matches (label BIGINT NOT NULL, part BIGINT NOT NULL, PRIMARY KEY (part, label));
CREATE TABLE IF NOT EXISTS mlops_monitor_additions (
    number {serial}, made {real} NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL, counts TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_alerts (
    number {serial}, rule TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    began {real} NOT NULL, made {real} NOT NULL, ended {real}
);
CREATE TABLE IF NOT EXISTS mlops_monitor_outbox (
    number {serial}, alert BIGINT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, due {real} NOT NULL,
    attempts BIGINT NOT NULL, sent {real}, problem TEXT NOT NULL, UNIQUE (alert, channel, kind)
);
CREATE TABLE IF NOT EXISTS mlops_monitor_silences (
    number {serial}, rule TEXT NOT NULL, model TEXT NOT NULL, made {real} NOT NULL, until {real} NOT NULL, who TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_retrainings (
    number {serial}, part BIGINT NOT NULL, evidence BIGINT NOT NULL, rule TEXT NOT NULL, model TEXT NOT NULL,
    version TEXT NOT NULL, as_of TEXT NOT NULL,
    state TEXT NOT NULL, made {real} NOT NULL, due {real} NOT NULL, ended {real}, identity TEXT NOT NULL, outcome TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_switches (
    number {serial}, name TEXT NOT NULL, value TEXT NOT NULL, made {real} NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mlops_monitor_shown (name TEXT PRIMARY KEY, made {real} NOT NULL, content TEXT NOT NULL);
"""


def opened(file: Path, uri: str | None) -> Database:
    """The watch's database in a file, made if it is missing, or at PostgreSQL's address. Raises :class:`PipelineError`."""
    return database.opened(file, resolved(uri, "state.uri") if uri else None, database.Tables(TABLES, VERSION, "a watch", "state"))
