"""What a text means in a column of moments, and how a moment is written for a model: one form, by every way in.

Tables read whole columns at a time by the same forms (``tables.cast``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mlops_pipeline.contract.values import BLANKS

WRITTEN = "%Y-%m-%d %H:%M:%S"
"""How a model is given a moment: in UTC, to the second."""

_ZONE = re.compile(r"(?i) ?(?:Z|UTC|GMT)$")
_ISO = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[+-]\d{2}:?\d{2})?)?", re.ASCII)
_USUAL = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}Z?", re.ASCII)
_FRACTION = re.compile(r"\.\d+")
_BEFORE_ZONE = re.compile(r" ?([+-]\d{2}:?\d{2})$")
_FORMS = ("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def moment_of(text: str, form: str | None = None) -> str | None:
    """A text as a moment, written as models take it; None if it is none.

    ``form`` is how it is written, as strftime has it; ISO 8601 is read in any case.
    """
    if form is None and _USUAL.fullmatch(text) is not None:
        try:  # what nearly all clients write, told in a tenth of the time
            datetime.fromisoformat(text[:19])
        except ValueError:
            return None
        return f"{text[:10]} {text[11:19]}"
    bare = text.strip(BLANKS)
    if form is not None:
        fraction = "f" in re.findall(r"%[.\d]*([A-Za-z])", form)
        said = _moment(_FRACTION.sub("", bare, count=1) if fraction else bare, (re.sub(r"%\.?\d?f", "", form).rstrip("."),))
        return moment_of(text) if said is None else said
    bare = _ZONE.sub("", bare)
    if _ISO.fullmatch(bare) is None:
        return None
    bare = _BEFORE_ZONE.sub(r"\1", _FRACTION.sub("", bare)) if ":" in bare else bare
    return _moment(bare.replace("T", " "), _FORMS)


def _moment(bare: str, forms: tuple[str, ...]) -> str | None:
    for each in forms:
        try:
            moment = datetime.strptime(bare, each)  # what has no zone is in UTC
            moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment
        except (ValueError, OverflowError):  # in UTC it may lie outside the years that there are
            continue
        return f"{moment.year:04}{moment.strftime(WRITTEN[2:])}"
    return None
