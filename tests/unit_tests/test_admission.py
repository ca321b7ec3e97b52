"""Which versions may be taken: those that the gate let pass, and those on which a person's last word is yes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_pipeline.registry.admission import (
    ADMITTED_TAG,
    DECISION,
    IDENTITY_TAG,
    OVERRIDE_TAG,
    PASSED_TAG,
    admitted,
    decisions,
    next_decision,
    refusal,
)
from mlops_pipeline.registry.versions import content_digest, holds, identity_digest

CONTENT, OTHER, ROWS = "c" * 64, "d" * 64, "a" * 64
NEW = {IDENTITY_TAG: "b" * 64}


def word(number: int, decision: str, content: str = CONTENT) -> dict[str, str]:
    said = {"decision": decision, "by": "anna", "reason": "seen by eye", "time": "2024-05-01T00:00:00Z", "content_sha256": content}
    return {f"{DECISION}{number:04d}.ab{number:02d}": json.dumps(said)}


TAKEN = {
    "the gate let it pass": {**NEW, **admitted(CONTENT, ROWS), PASSED_TAG: "true"},
    "a champion that today's gate would not let pass": {**NEW, **admitted(CONTENT, ROWS), PASSED_TAG: "false"},
    "approved": {**NEW, PASSED_TAG: "false", **word(1, "approved")},
    "approved after it was rejected": {**NEW, **admitted(CONTENT, ROWS), **word(1, "rejected"), **word(2, "approved")},
    "the tenth word counts more than the second": {**NEW, **word(2, "rejected"), **word(10, "approved")},
    "made before, and passed": {PASSED_TAG: "true"},
    "made before, and champion then": {PASSED_TAG: "false", **admitted(CONTENT, "")},
    "made before, and promoted in spite of the gate": {PASSED_TAG: "false", OVERRIDE_TAG: "seen by eye"},
}
REFUSED = {
    "the gate's tag written by hand": ({**NEW, PASSED_TAG: "true"}, "did not pass its gate"),
    "another version's pass": ({**NEW, **admitted(OTHER, ROWS)}, "did not pass its gate"),
    "another version's approval": ({**NEW, **word(1, "approved", OTHER)}, "did not pass its gate"),
    "a word that nobody can read": ({**NEW, f"{DECISION}0001.ab": "yes"}, "did not pass its gate"),
    "a pass of nothing": ({**NEW, ADMITTED_TAG: ""}, "did not pass its gate"),
    "rejected though it passed": ({**NEW, **admitted(CONTENT, ROWS), **word(1, "rejected")}, "was rejected by anna (seen by eye)"),
    "made before, and failed": ({PASSED_TAG: "false"}, "did not pass its gate"),
    "made before, and rejected now": ({PASSED_TAG: "true", **word(1, "rejected")}, "was rejected by anna"),
    "made before, and another was champion then": ({PASSED_TAG: "false", **admitted(OTHER, "")}, "`mlops run` takes it once more if"),
    "never judged": ({}, "did not pass its gate"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_version_is_taken_that_passed_or_was_approved(case: str) -> None:
    assert refusal("3", TAKEN[case], CONTENT) == ""


@pytest.mark.parametrize("case", REFUSED)
def test_no_other_is_and_the_reason_says_how_to_approve_it(case: str) -> None:
    tags, words = REFUSED[case]
    said = refusal("3", tags, CONTENT)
    assert words in said
    assert "`mlops models approve 3 --reason REASON`" in said
    assert "`mlops models approve 3 --reason REASON --config mine.yaml`" in refusal("3", tags, CONTENT, " --config mine.yaml")
    assert "\n" not in said


def test_no_decision_takes_the_place_of_one_before() -> None:
    tags: dict[str, str] = {}
    for _ in range(12):
        key = next_decision(tags)
        assert key not in tags
        tags |= {key: next(iter(word(1, "approved").values()))}
    assert len(decisions(tags)) == 12
    assert list(tags) == sorted(tags)


def folder_of(place: Path) -> Path:
    for name in ("MLmodel", "model.skops", "training.json", "expected.json", "onnx/model.onnx", "judged/deep/part", "requirements.txt"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    return place


def test_the_digest_is_of_every_file_its_name_and_what_lies_beside_it(tmp_path: Path) -> None:
    seen = {content_digest(folder_of(tmp_path / "whole"))}
    for name in sorted(file.relative_to(tmp_path / "whole") for file in (tmp_path / "whole").rglob("*") if file.is_file()):
        for what in ("changed", "gone", "renamed"):
            other = folder_of(tmp_path / f"{name.name} {what}")
            file = other / name
            if what == "changed":
                file.write_text("x")
            elif what == "gone":
                file.unlink()
            else:
                file.rename(file.with_name("x"))
            assert content_digest(other) not in seen, (name, what)
            seen.add(content_digest(other))
    for name, add in {"a file": Path.touch, "a link to nothing": lambda file: file.symlink_to("nowhere")}.items():
        other = folder_of(tmp_path / name)
        add(other / "onnx/more")
        assert content_digest(other) not in seen, name
    assert content_digest(folder_of(tmp_path / "again")) in seen


def test_a_digest_of_either_kind_holds_for_its_own_files_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "version")
    new, old = content_digest(folder), identity_digest(folder)
    (folder / "expected.json").write_text("poisoned")
    assert (holds(folder, new), holds(folder, old)) == (False, True)
    (folder / "onnx/model.onnx").write_text("poisoned")
    assert (holds(folder, new), holds(folder, old)) == (False, False)
