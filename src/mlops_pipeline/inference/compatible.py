"""Whether what one version is asked can be given to another."""

from __future__ import annotations

from typing import NamedTuple

from mlops_pipeline.contract.spec import AS_TEXT
from mlops_pipeline.inference.signature import Signature


class Accepted(NamedTuple):
    """What a server takes for a version: finished features, unless raw rows are taken ``only``; ``raw`` is None where none are."""

    features: Signature
    raw: Signature | None
    only_raw: bool


def why_unfit(champion: Accepted, challenger: Accepted) -> str:
    """Why requests that the champion answers cannot be given to another version; empty if they can."""
    one, other = champion.features, challenger.features
    if one.task != other.task:
        return f"it says another thing ({other.task}) than the champion ({one.task})"
    if one.classes != other.classes:
        said, known = (", ".join(map(str, each.classes[:10])) for each in (other, one))
        return f"it answers with other classes ({said}) than the champion ({known})"
    if not champion.only_raw and (problem := _unreadable(one, other, "columns")):
        return problem
    if champion.raw is not None and challenger.raw is None:
        return "it takes no raw rows, which the champion takes"
    if champion.raw is not None and challenger.raw is not None and (problem := _unreadable(champion.raw, challenger.raw, "raw columns")):
        return problem
    return ""


def _unreadable(sent: Signature, taken: Signature, what: str) -> str:
    """Why rows of one signature cannot be read by another."""
    lacking = [name for name in taken.names if name not in sent.columns]
    if lacking:
        return f"it needs {what} that the champion does not take, so that clients need not send them: {', '.join(lacking[:10])}"
    other = [name for name in taken.names if (taken.columns[name].kind in AS_TEXT) != (sent.columns[name].kind in AS_TEXT)]
    if other:
        return f"it takes these {what} as another kind than the champion: {', '.join(other[:10])}"
    extra = [name for name in sent.names if name not in taken.columns]
    if extra and taken.refuse_extra:
        return f"it does not know these {what}, and extra_columns is refuse: {', '.join(extra[:10])}"
    return ""
