"""``dvc.lock`` as a run leaves it meanwhile: whoever reads it, by either version of YAML, reads what DVC would have written.

And what a run takes for an edit of the settings.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import loads_yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.events import Cause, Event, Listener, StageBegan
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline import runner
from mlops_pipeline.pipeline.cache import _Draft
from mlops_pipeline.pipeline.render import LOCK
from tests.conftest import Project
from tests.unit_tests.workshop import quiet

AWKWARD = [
    "yes",
    "No",
    "y",
    "null",
    "~",
    "",
    "1e3",
    "1_000",
    "0o17",
    "017",
    "12:30",
    "2013-07-01",
    ".inf",
    "=",
    "<<",
    "- a",
    "a: b",
    "#",
    "12e45",
]
TEXT = st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)


def drafted(content: Any) -> str:
    return str(yaml.dump(content, None, _Draft, sort_keys=False, default_flow_style=False))


@given(VALUES)
def test_a_draft_reads_the_same_by_either_version_of_yaml(content: Any) -> None:
    text = drafted({"stages": content})
    assert loads_yaml(text) == {"stages": content}
    assert yaml.load(text, yaml.CSafeLoader) == {"stages": content}


def test_a_draft_spells_common_content_as_dvc_does_and_refers_to_nothing_twice() -> None:
    seen = OrderedDict([("path", "data/raw/flights.parquet"), ("hash", "md5"), ("size", 7), ("from", date(2013, 1, 1))])
    text = drafted(OrderedDict([("schema", "2.0"), ("stages", {"ingest": {"deps": [seen, seen]}})]))
    assert text.splitlines()[:7] == [
        'schema: "2.0"',
        "stages:",
        "  ingest:",
        "    deps:",
        "    - path: data/raw/flights.parquet",
        "      hash: md5",
        "      size: 7",
    ]
    assert "&" not in text


def run(project: Project, stop: str, *listeners: Listener) -> None:
    settings = load_settings(project.config)
    runner.run(settings, layout_of(settings, project.config, project.folder), quiet(), stop=stop, listeners=listeners)


def causes(project: Project) -> dict[str, list[Cause]]:
    settings = load_settings(project.config)
    return runner.prepare(settings, layout_of(settings, project.config, project.folder), quiet()).causes()


def test_what_is_edited_while_another_stage_runs_is_recorded_for_none_that_ran_by_the_old_settings(project: Project) -> None:
    def edit(event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage == "validate":
            project.change(split={"test_from": "2024-02-10"})

    run(project, "split", edit)
    found = causes(project)
    assert (found["ingest"], found["validate"], found["split"]) == ([], [Cause("never run")], [Cause("never run")])
    run(project, "split")
    assert causes(project)["split"] == []


EDITS: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[str]]] = {
    "a share for a count": ("ingest", {"chunk_mb": 1}, {"chunk_mb": 1.0}, ["ingest.chunk_mb: 1 → 1.0"]),
    "a count for a share": ("ingest", {"max_broken_share": 1.0}, {"max_broken_share": 1}, ["ingest.max_broken_share: 1.0 → 1"]),
    "nothing": ("validate", {"min_class_share": 1e-5}, {"min_class_share": 1e-5}, []),
    "one of two": (
        "validate",
        {"min_class_share": 1e-5, "max_categories": 9},
        {"min_class_share": 1e-5, "max_categories": 8},
        ["validate.max_categories: 9 → 8"],
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_named_and_nothing_else(project: Project, case: str) -> None:
    stage, before, after, lines = EDITS[case]
    project.change(**{stage: before})
    run(project, stage)
    project.change(**{stage: after})
    assert causes(project)[stage] == [Cause("settings", line) for line in lines]


def test_null_where_nothing_stood_is_an_edit(project: Project) -> None:
    """It switches a rule of the gate off."""
    run(project, "ingest")
    project.change(dataset={"positive": None})
    assert causes(project)["ingest"] == [Cause("settings", "dataset.positive: unset → null")]


def test_of_a_section_that_is_taken_out_only_what_it_said_is_an_edit(project: Project) -> None:
    project.change(ingest={"chunk_mb": 9})
    run(project, "ingest")
    content = project.settings()
    content.pop("ingest")
    project.config.write_text(yaml.safe_dump(content, sort_keys=False))
    assert causes(project)["ingest"] == [Cause("settings", "ingest.chunk_mb: 9 → 8")]


def test_a_default_that_has_a_key_more_by_now_is_named(project: Project) -> None:
    """As after an upgrade of this package."""
    content = project.settings()
    content.pop("ingest", None)
    project.config.write_text(yaml.safe_dump(content, sort_keys=False))
    run(project, "ingest")
    lock = project.folder / "dvc.lock"
    recorded = yaml.safe_load(lock.read_text())
    recorded["stages"]["ingest"]["params"][LOCK]["defaults.ingest"].pop("chunk_mb")
    lock.write_text(yaml.safe_dump(recorded, sort_keys=False))
    assert causes(project)["ingest"] == [Cause("settings", "ingest.chunk_mb: unset → 8")]
