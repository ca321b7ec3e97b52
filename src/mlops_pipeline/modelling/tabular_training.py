"""How a network of a table's columns learns, in one process or in several."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mlops_pipeline.modelling import network_training
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.network_team import OF_FIXED, TAUGHT, Told, follow, team_of
from mlops_pipeline.modelling.network_training import Course, device_of, key_of, learn, parted, threads_of
from mlops_pipeline.modelling.networks import FIXED, NetworkPlan, outputs

SCORED_ROWS = 2048
"""Rows held back that are looked at together."""

CODE = (*network_training.CODE, *(Path(__file__).with_name(name) for name in ("networks.py", "tabular_training.py", "network_team.py")))


class InTorch:
    """The operations in PyTorch; ``dropout`` is the share that a step leaves out."""

    def __init__(self, dropout: float = 0.0) -> None:
        self._dropout = dropout

    def clip(self, values: Any, low: Any, high: Any) -> Any:
        return torch.minimum(torch.maximum(values, low), high)

    def relu(self, values: Any) -> Any:
        return torch.relu(values)

    def known(self, values: Any) -> tuple[Any, Any]:
        missing = torch.isnan(values)
        return values.masked_fill(missing, 0.0), (~missing).to(values.dtype)

    def rows_of(self, table: Any, places: Any) -> Any:
        return functional.embedding(places.long(), table)

    def reshaped(self, values: Any, shape: Sequence[int]) -> Any:
        return values.reshape(tuple(shape))

    def moved(self, values: Any, order: Sequence[int]) -> Any:
        return values.permute(tuple(order))

    def joined(self, values: Sequence[Any]) -> Any:
        return torch.cat(tuple(values), dim=-1)

    def dropped(self, values: Any) -> Any:
        return functional.dropout(values, self._dropout) if self._dropout else values


def learned(
    of: NetworkPlan,
    weights: Mapping[str, np.ndarray],
    numbers: np.ndarray | None,
    codes: np.ndarray | None,
    target: np.ndarray,
    during: Fitting,
) -> tuple[dict[str, np.ndarray], list[float]]:
    """The weights from the best pass on, by what ``during`` goes by or else the loss on the rows held back, and the losses of all passes.

    ``weights`` are those it begins with, ``target`` the places of the classes (int64) or scaled values (float32). Raises
    :class:`PipelineError` if there is no row to learn from, or the loss is no number.
    """
    device = device_of(of.device, of.processes)
    with threads_of(during.threads, device, of.processes) as threads:
        taught, held = parted(of, target, during)
        fixed = {name: torch.tensor(each, device=device) for name, each in weights.items() if name in FIXED}
        if numbers is not None:
            # Scaled once, in 64 bits: values far from zero lie near each other.
            numbers = (numbers - weights["mean"].astype(np.float64)) * weights["inverse_std"].astype(np.float64)
            fixed |= {"mean": torch.zeros(1, device=device), "inverse_std": torch.ones(1, device=device)}
        rows = TabularRows(
            _tensor(numbers, device), _tensor(codes, device), torch.tensor(target, device=device), fixed, of.depth, of.dropout
        )
        course = Course.begun(of, {name: each for name, each in weights.items() if name not in FIXED}, device)
        key = key_of(of, CODE, numbers, codes, target, taught, during.measure, device)
        batch = of.batch_rows or _batch_of(len(taught))
        told = _Told(of.processes, threads, of.seed, of.dropout, of.learning_rate, of.weight_decay, batch, is_limited=False, depth=of.depth)
        with team_of(told, lambda: rows.arrays() | {TAUGHT: taught}, "mlops_pipeline.modelling.tabular_training") as team:
            learn(of, rows, course, taught, held, batch, during, key, team=team)
        return {**weights, **course.best}, course.losses


class _Told(Told, kw_only=True):
    """What everyone of a team goes by that learns a network of a table's columns."""

    depth: int


@dataclass
class TabularRows:
    """What a network of a table's columns learns from, on the device."""

    numbers: Any
    codes: Any
    target: Any
    fixed: dict[str, Any]
    depth: int
    dropout: float

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it that is a number, for a team's other processes."""
        known = {"numbers": self.numbers, "codes": self.codes, "target": self.target}
        known |= {f"{OF_FIXED}{name}": each for name, each in self.fixed.items()}
        return {name: each.numpy() for name, each in known.items() if each is not None}

    @classmethod
    def of(cls, told: _Told, arrays: Mapping[str, np.ndarray]) -> TabularRows:
        """What :meth:`arrays` are of."""
        known = {name: torch.from_numpy(each) for name, each in arrays.items()}
        fixed = {name.removeprefix(OF_FIXED): each for name, each in known.items() if name.startswith(OF_FIXED)}
        return cls(known.get("numbers"), known.get("codes"), known["target"], fixed, told.depth, told.dropout)

    def batches(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _said(self, weights: Mapping[str, Any], chosen: Any, arrays: InTorch) -> tuple[Any, Any]:
        """What the members say of some rows, and the truth of each."""
        at = torch.as_tensor(chosen, device=self.target.device)
        numbers, codes = (None if each is None else each[at] for each in (self.numbers, self.codes))
        return outputs(arrays, {**self.fixed, **weights}, numbers, codes, self.depth), self.target[at]

    def losses(self, weights: Mapping[str, Any], chosen: np.ndarray) -> Iterator[Any]:
        """The mean of the members' losses: each learns for itself."""
        said, target = self._said(weights, chosen, InTorch(self.dropout))
        target = target[:, None].expand(-1, said.shape[1])
        if said.shape[2] == 1:
            yield functional.mse_loss(said[:, :, 0], target)
        else:
            yield functional.cross_entropy(said.flatten(0, 1), target.flatten())

    def mean_loss(self, weights: Mapping[str, Any], chosen: np.ndarray) -> tuple[float, np.ndarray | None]:
        """The loss of what the members say together, and the probabilities, if there are classes."""
        found, parts = 0.0, []
        with torch.inference_mode():
            for start in range(0, len(chosen), SCORED_ROWS):
                said, target = self._said(weights, chosen[start : start + SCORED_ROWS], InTorch())
                if said.shape[2] == 1:
                    found += float(((said[:, :, 0].mean(1) - target) ** 2).sum())
                else:
                    shares = torch.softmax(said, -1).mean(1)
                    found -= float(shares.gather(1, target[:, None]).clamp_min(1e-12).log().sum())
                    parts.append(shares.cpu().numpy().astype(np.float64))
        return found / len(chosen), np.concatenate(parts) if parts else None


def _tensor(values: np.ndarray | None, device: Any) -> Any:
    return None if values is None else torch.tensor(values.astype(np.float32), device=device)


def _batch_of(rows: int) -> int:
    """Rows of a step where nobody says: about 150 steps a pass, of 32 to 1024 rows."""
    return int(min(1024, max(32, 2 ** round(math.log2(rows / 150)))))


if __name__ == "__main__":
    follow(sys.argv[1:], _Told, TabularRows.of)
