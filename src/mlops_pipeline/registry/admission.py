"""Whether a version may be taken: its gate let it pass, or a person approved it. What is noted of that among its tags."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import msgspec

ADMITTED_TAG = "mlops.admitted"
"""What the gate let pass, and on what: the content's digest, a space, the digest of the held-out rows. Written once.

Without those rows on a version of before that was champion: a later gate may have written over what let it pass.
"""
IDENTITY_TAG = "mlops.identity_sha256"
"""Versions without it were made before the digest covered every file; of them the gate's own tag counts."""
WAITS_TAG = "mlops.waits_for_approval"
"""The digest of the content that its gate let pass and that a person has yet to approve; empty once it is champion."""
HELD_TAG = "mlops.held_by_a_run"
"""The same digest where a run was told so (``--then approval``) whatever the settings say: they let go of no such version."""
PASSED_TAG = "mlops.gate_passed"
"""What the gate said last: of a champion it may say no today, and of no version does it say who may take it."""
OVERRIDE_TAG = "mlops.promoted_in_spite_of_gate"
"""The reason on versions that were approved before decisions were kept."""
DECISION = "mlops.decision."
"""A tag for each decision, numbered and then drawn: none is ever written over, though two machines decide at once."""

LONGEST_REASON = 1000
_KEY = re.compile(rf"{re.escape(DECISION)}(\d+)\.[0-9a-f]+")

Word = Literal["approved", "rejected"]


class Decision(msgspec.Struct, frozen=True):
    """A person's word on a version: whose, why, when (UTC), and on what content."""

    decision: Word
    by: str
    reason: str
    time: str
    content_sha256: str


def decisions(tags: Mapping[str, str]) -> tuple[Decision, ...]:
    """Every person's word on a version, oldest first; one that cannot be read counts for nothing."""
    found = []
    for key, value in tags.items():
        if number := _number(key):
            with suppress(msgspec.DecodeError):
                found.append((number, msgspec.json.decode(value, type=Decision)))
    return tuple(decision for _, decision in sorted(found, key=lambda one: (one[0], one[1].time)))


def next_decision(tags: Mapping[str, str]) -> str:
    """The tag of the next decision."""
    return f"{DECISION}{max(map(_number, tags), default=0) + 1:04d}.{secrets.token_hex(4)}"


def refusal(version: str, tags: Mapping[str, str], content_sha256: str, option: str = "") -> str:
    """Why a version with these tags may not be taken and how to change that, in one line; empty if it may.

    ``option`` names the settings to a command.
    """
    last = last_word(tags, content_sha256)
    if last is not None and last.decision == "rejected":
        why = f"was rejected by {last.by} ({last.reason})"
    elif last is not None or _let_pass(tags, content_sha256):
        return ""
    elif waits(tags, content_sha256):
        why = "passed its gate and waits for approval"
    else:
        why = "did not pass its gate"
        if IDENTITY_TAG not in tags:
            why += f" when that was last asked (`mlops run{option}` takes it once more if it was champion before this release)"
    return f"{why}, so it is not taken: `mlops models approve {version} --reason REASON{option}` if it shall be, or promote another version"


def admitted_on(tags: Mapping[str, str], content_sha256: str) -> str:
    """The digest of the held-out rows on which the gate let this content pass; empty where a person's word counts, or nothing tells."""
    content, _, rows = tags.get(ADMITTED_TAG, "").partition(" ")
    return rows if content == content_sha256 and last_word(tags, content_sha256) is None else ""


def admitted(content_sha256: str, test_sha256: str) -> dict[str, str]:
    """The tag of a version that the gate let pass."""
    return {ADMITTED_TAG: f"{content_sha256} {test_sha256}"}


def waiting(content_sha256: str, *, by_a_run: bool = False) -> dict[str, str]:
    """The tags of a version that the gate let pass and that a person has to approve, as the settings say or one run was told."""
    return {HELD_TAG: content_sha256 if by_a_run else "", WAITS_TAG: content_sha256}


def waits(tags: Mapping[str, str], content_sha256: str) -> bool:
    """Whether a version is to become champion as soon as a person approves it."""
    last = last_word(tags, content_sha256)
    return tags.get(WAITS_TAG, "") == content_sha256 != "" and (last is None or last.decision == "approved")


def held(tags: Mapping[str, str], content_sha256: str) -> bool:
    """Whether it waits since a run was told so, which the next run does not undo unless it is told otherwise."""
    return tags.get(HELD_TAG, "") == content_sha256 and waits(tags, content_sha256)


def _let_pass(tags: Mapping[str, str], content_sha256: str) -> bool:
    if tags.get(ADMITTED_TAG, "").partition(" ")[0] == content_sha256 != "":
        return True
    if IDENTITY_TAG in tags:
        return False
    return tags.get(PASSED_TAG) == "true" or bool(tags.get(OVERRIDE_TAG))


def was_champion_before(tags: Mapping[str, str], content_sha256: str) -> dict[str, str]:
    """The tag that a version that was champion lacks, if it was made before versions had an identity; none if it needs none."""
    if IDENTITY_TAG in tags or not content_sha256 or _let_pass(tags, content_sha256):
        return {}
    return admitted(content_sha256, "")


def last_word(tags: Mapping[str, str], content_sha256: str) -> Decision | None:
    """The word that counts: the last on this very content."""
    return next((one for one in reversed(decisions(tags)) if one.content_sha256 == content_sha256), None)


def _number(key: str) -> int:
    """Which decision a tag is, from 1; 0 if it is none."""
    found = _KEY.fullmatch(key)
    return int(found[1]) if found else 0
