"""Who may ask a server for what: API keys by their names, known by their digests alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mlops_pipeline.config.tree import Frozen, Name, mapping_of, tree_of
from mlops_pipeline.errors import PipelineError

Scope = Literal["predict", "metrics", "admin", "labels", "monitoring"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Everything a key can be good for: predictions and what models are like, /metrics, /status, /labels, /monitoring."""

DIGEST = r"sha256:[0-9a-f]{64}"
KEYS_REMEDY = "write a line for each key there, 'name: digest', as `mlops key` prints it"


def _digest(value: str) -> str:
    if not re.fullmatch(DIGEST, value):
        raise ValueError("must be sha256: and 64 hexadecimal digits, never the key itself: `mlops key` prints both")
    return value


def _moment(value: Any) -> Any:
    """A date or a moment, and no number: seconds since 1970 are meant by nobody, and ``90`` would have passed long ago."""
    if isinstance(value, date):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError("give a moment such as 2027-01-31 or 2027-01-31T12:00:00Z") from error


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Digest = Annotated[str, AfterValidator(_digest)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_utc)]


class Key(Frozen):
    """What the holder of one key may do. A digest in place of this mapping is a key with every right."""

    digest: Digest = Field(description="sha256: and 64 digits, as `mlops key` prints it; never the key itself")
    scopes: tuple[Scope, ...] = Field(SCOPES, min_length=1, description="what the key is good for; default: everything")
    models: tuple[Name, ...] | None = Field(None, min_length=1, description="names in the URL that it may ask; default: all")
    expires: Moment | None = Field(None, description="good before this moment (UTC where no zone is given); default: for ever")
    requests_per_s: float | None = Field(None, gt=0, description="above that 429; default: as many as come")
    rows_per_s: float | None = Field(None, gt=0, description="above that 429; default: as many as come")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, Mapping | Key):
            return value
        return {"digest": _digest(value if isinstance(value, str) else "")}


class Keys(Frozen):
    """The file that ``api_keys_file`` names: names and keys, nothing around them."""

    SECRET: ClassVar[tuple[str, ...]] = ("api_keys",)

    api_keys: dict[Name, Key]

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        problem = ambiguous(self.api_keys)
        if problem:
            raise ValueError(problem)
        return self


def ambiguous(keys: Mapping[str, Key]) -> str:
    """What is wrong with two names for one key whose rights differ; empty if there are no such names."""
    first: dict[str, str] = {}
    for name, key in keys.items():
        other = first.setdefault(key.digest, name)
        if keys[other] != key:
            return f"'{other}' and '{name}' are the same key with different rights: take one of them out"
    return ""


def keys_in(text: str, origin: str) -> dict[str, Key]:
    """The keys of a file's text, which may be none; raises :class:`PipelineError` in one line that names ``origin``."""
    content = mapping_of(text, origin, KEYS_REMEDY) if _said(text) else {}
    return dict(tree_of(Keys, {"api_keys": content}, origin).api_keys)


def _said(text: str) -> list[str]:
    """The lines that say something."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---"]


def check_models(keys: Mapping[str, Key], models: Iterable[str], origin: str) -> None:
    """Raise :class:`PipelineError` if a key is for a model that this server has not."""
    served = list(models)
    for name, key in keys.items():
        for model in key.models or ():
            if model not in served:
                raise PipelineError(f"{origin}: api_keys.{name}.models: '{model}' is not among 'models': use some of {', '.join(served)}")


def entry_of(name: str, key: Key) -> str:
    """A key as the lines of a keys file, with what it says beyond the defaults."""
    said = key.model_dump(mode="json", exclude_defaults=True)
    if said.keys() == {"digest"}:
        return f"{name}: {key.digest}\n"
    lines = [f"{name}:"]
    for field, value in said.items():
        shown = f"[{', '.join(value)}]" if isinstance(value, list) else f"{value:.15g}" if isinstance(value, float) else value
        lines.append(f"  {field}: {shown}")
    return "\n".join(lines) + "\n"
