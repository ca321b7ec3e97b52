"""From a request's bytes to checked rows, and from outputs back to bytes: one file a protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from mlops_pipeline.inference.raw import RawRows
    from mlops_pipeline.inference.signature import Rows
    from mlops_pipeline.serving.request import Request

Headers = list[tuple[bytes, bytes]]


class Spoken(Protocol):
    """A protocol for one model: pure, without the network."""

    def read(self, request: Request, body: bytes) -> tuple[Rows | RawRows, Any]:
        """Checked rows, and what :meth:`write` needs to know of the request; raises :class:`Refused` and nothing else."""
        ...

    def write(self, request: Request, rows: Rows, wanted: Any, outputs: np.ndarray) -> tuple[bytes, Headers]:
        """The answer's body and its content headers."""
        ...
