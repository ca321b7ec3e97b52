"""What an apply changed in an object, without what only the server keeps there and without what is confidential."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mlops_pipeline.errors import is_secret_name, without_secrets

# The server's own bookkeeping, and kubectl's copy of the whole object (which would repeat a Secret's content).
_BOOKKEEPING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_COPY = "kubectl.kubernetes.io/last-applied-configuration"
_MISSING = object()


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Each field that differs, a line each, without confidential values."""
    return list(_differences(_plain(before), _plain(after), "", hidden=False))


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (content.get("metadata") or {}).items() if key not in _BOOKKEEPING}
    annotations = {key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != _COPY}
    if annotations:
        metadata["annotations"] = annotations
    return {**{key: value for key, value in content.items() if key != "status"}, "metadata": metadata}


def _differences(before: Any, after: Any, path: str, hidden: bool) -> Iterator[str]:
    if _is_same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        confidential = _confidential(before) | _confidential(after)
        for key in [*before, *(key for key in after if key not in before)]:
            within = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key, _MISSING), after.get(key, _MISSING), within, hidden or key in confidential)
    elif isinstance(before, list) and isinstance(after, list):
        old, new = _keyed(before), _keyed(after)
        found: list[str] = []
        for key in [*old, *(key for key in new if key not in old)]:
            asked_for = _is_asked_for(old, key) or _is_asked_for(new, key)
            found += _differences(old.get(key, _MISSING), new.get(key, _MISSING), f"{path}[{key}]", hidden or asked_for)
        yield from found or [f"{path}: another order"]
    elif before is _MISSING:
        yield f"{path}: added" if hidden else f"{path}: added {_shown(after)}"
    elif after is _MISSING:
        yield f"{path}: removed" if hidden else f"{path}: removed {_shown(before)}"
    else:
        yield f"{path}: changed" if hidden else f"{path}: {_shown(before)} → {_shown(after)}"


def _is_same(before: Any, after: Any) -> bool:
    """Whether two values are one for Kubernetes: a Boolean equals a number in Python alone, however deep it stands."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_is_same(value, after[key]) for key, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same, before, after))
    return isinstance(before, bool) == isinstance(after, bool) and bool(before == after)


def _keyed(items: list[Any]) -> dict[Any, Any]:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return dict(zip(names if named else range(len(items)), items, strict=True))


def _confidential(content: dict[str, Any]) -> set[str]:
    """The keys whose values are nobody's to read: a Secret's content, and what a variable or HTTP header with a telling name holds.

    Variables stand in a list, by ``name`` and ``value``, or in a ConfigMap's data; no field of Kubernetes' own is in capitals or has ``_``.
    """
    found = {"data", "stringData"} if content.get("kind") == "Secret" else set()
    found |= {"value"} if is_secret_name(str(content.get("name"))) else set()
    return found | {key for key in content if isinstance(key, str) and (key.isupper() or "_" in key) and is_secret_name(key)}


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        confidential = _confidential(value)
        return {key: "…" if key in confidential else _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return ["…" if _is_asked_for(dict(enumerate(value)), place) else _redacted(each) for place, each in enumerate(value)]
    # What stands before an address may be a variable's name, and no word.
    return re.sub(r"://\S*@", "://…@", without_secrets(value)) if isinstance(value, str) else value


def _is_asked_for(arguments: dict[Any, Any], place: Any) -> bool:
    """Whether a command's argument is the secret that the one before it announces."""
    flag = arguments.get(place - 1) if isinstance(place, int) else None
    return isinstance(flag, str) and flag.startswith("-") and "=" not in flag and is_secret_name(flag)


def _shown(value: Any, limit: int = 80) -> str:
    value = _redacted(value)
    text = value if isinstance(value, str) and value and value.isprintable() else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
