"""``dvc.lock`` as a run leaves it meanwhile: whoever reads it, by either version of YAML, reads what DVC would have written."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from typing import Any

import yaml
from dvc.utils.serialize import loads_yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.pipeline.cache import _Draft

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
