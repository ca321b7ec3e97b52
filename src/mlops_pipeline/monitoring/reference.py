"""A version's summary of its own rows, read from its folder."""

from __future__ import annotations

from pathlib import Path

from mlops_pipeline.contract.reference import FILE, Reference, decoded
from mlops_pipeline.contract.spec import Unreadable
from mlops_pipeline.errors import PipelineError

__all__ = ["FILE", "Reference", "reference_at"]


def reference_at(folder: Path) -> Reference:
    """The summary beside a version; raises :class:`PipelineError` if there is none, or it cannot be read."""
    path = folder / FILE
    if not path.is_file():
        raise PipelineError(f"{path}: does not exist: `mlops monitor reference` writes it for a version of before")
    try:
        return decoded(path.read_bytes())
    except (Unreadable, OSError) as error:
        raise PipelineError(f"{path}: {error}: write it again with `mlops monitor reference`") from error
