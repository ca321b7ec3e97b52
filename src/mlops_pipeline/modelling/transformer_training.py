"""How an encoder of text goes on learning, with a linear head: by PyTorch, in the loop of :mod:`network_training`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from mlops_pipeline.inference.sentences import Tokens
from mlops_pipeline.modelling import network_training
from mlops_pipeline.modelling.fitting import Fitting, Learning
from mlops_pipeline.modelling.network_team import OF_FIXED, TAUGHT, Told, follow, team_of
from mlops_pipeline.modelling.network_training import Course, device_of, key_of, learn, threads_of
from mlops_pipeline.modelling.transformer import Shape, embeddings

TOKENS_AT_ONCE = 2048
"""Of one step that are in memory together: what layers note for learning takes some 20 kB a token of a small encoder."""

ALIKE = 8
"""Rows of so many steps are sorted by length before they are shared out: texts of equally many tokens go together."""

OF_TEXTS, SPARSE = ("flat", "starts", "of_row"), ("data", "indices", "indptr", "shape")
"""What a column's tokens, and a sparse table (CSR), are made of."""

FASTER = dict.fromkeys(("head", "head bias"), 20.0)
"""Times the learning rate that the head goes by: it takes numbers of another size."""

CODE = (
    *network_training.CODE,
    *(Path(__file__).with_name(name) for name in ("transformer.py", "transformer_training.py", "fine_tuning.py", "network_team.py")),
)


class TransformerPlan(Learning, Protocol):
    """How an encoder learns."""

    time_limit_s: float | None
    processes: int

    def learns(self, name: str, layers: int) -> bool:
        """Whether a weight of an encoder of so many layers, or of the head, learns."""
        ...


@dataclass(frozen=True)
class TokensOfTexts:
    """A column's tokens: those of its different texts one after the other, int32, where each begins, and which one a row has."""

    flat: np.ndarray
    starts: np.ndarray
    of_row: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: str, max_tokens: int) -> TokensOfTexts:
        tokens = Tokens(tokenizer, max_tokens)
        different = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        made = [np.array(tokens.of(text)[0], dtype=np.int32) for text in different]
        starts = np.concatenate([[0], np.cumsum([len(each) for each in made])])
        return cls(np.concatenate(made), starts, np.array([different[text] for text in texts]))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Tokens of each row's text."""
        at = self.of_row[rows]
        lengths: np.ndarray = self.starts[at + 1] - self.starts[at]
        return lengths

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """Of rows whose texts have equally many, int64 (rows, tokens)."""
        at = self.starts[self.of_row[rows]]
        tokens: np.ndarray = self.flat[at[:, None] + np.arange(self.lengths(rows[:1])[0])]
        return tokens.astype(np.int64)


class InTorch:
    """The operations in PyTorch; ``dropout`` is the share that a step leaves out."""

    def __init__(self, dropout: float = 0.0) -> None:
        self._dropout = dropout

    def rows_of(self, table: Any, places: Any) -> Any:
        return functional.embedding(places, table)

    def first_rows(self, table: Any, tokens: Any) -> Any:
        return table[: tokens.shape[1]]

    def normalised(self, values: Any, scale: Any, shift: Any, epsilon: float) -> Any:
        return functional.layer_norm(values, (values.shape[-1],), scale, shift, epsilon)

    def gelu(self, values: Any) -> Any:
        return functional.gelu(values)

    def softmax(self, values: Any) -> Any:
        return torch.softmax(values, -1)

    def in_heads(self, values: Any, heads: int) -> tuple[Any, Any, Any]:
        parted = values.reshape(*values.shape[:2], 3 * heads, -1).permute(0, 2, 1, 3)
        queries, keys, values = parted.chunk(3, dim=1)
        return queries, keys.transpose(2, 3), values

    def out_of_heads(self, values: Any, width: int) -> Any:
        return values.permute(0, 2, 1, 3).reshape(values.shape[0], values.shape[2], width)

    def mean_of_tokens(self, values: Any) -> Any:
        return values.mean(1)

    def first_token(self, values: Any) -> Any:
        return values[:, 0]

    def of_length_one(self, values: Any) -> Any:
        return functional.normalize(values, dim=-1)

    def dropped(self, values: Any) -> Any:
        return functional.dropout(values, self._dropout) if self._dropout else values


def learned(
    of: TransformerPlan,
    weights: Mapping[str, np.ndarray],
    shape: Shape,
    texts: Sequence[TokensOfTexts],
    table: Any,
    target: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray],
    during: Fitting,
) -> tuple[dict[str, np.ndarray], Course]:
    """The weights, of which the encoder's last layers and the head have learned, and how the passes went, the first: before any.

    ``texts`` are the tokens of each column, ``table`` the other columns' numbers, (rows, columns) or None, ``target`` the places of the
    classes (int64) or scaled values (float32), ``parts`` the rows to learn from and those held back. Raises
    :class:`PipelineError` if the loss is no number.
    """
    device = device_of(of.device, of.processes)
    with threads_of(during.threads, device, of.processes) as threads:
        taught, held = parts
        learning = {name: each for name, each in weights.items() if of.learns(name, shape.layers)}
        fixed = {name: torch.tensor(each, device=device) for name, each in weights.items() if name not in learning}
        rows = _Rows(texts, table, torch.tensor(target, device=device), fixed, shape, InTorch(of.dropout))
        course = Course.begun(of, learning, device, FASTER)
        known = rows.texts_and_table()
        key = key_of(of, CODE, shape, *weights.values(), *known, *known.values(), target, taught, during.measure, device)
        batch = of.batch_rows or 32
        told = _Told(
            of.processes,
            threads,
            of.seed,
            of.dropout,
            of.learning_rate,
            of.weight_decay,
            batch,
            is_limited=of.time_limit_s is not None,
            shape=shape,
            texts=len(texts),
        )
        with team_of(told, lambda: rows.arrays() | {TAUGHT: taught}, "mlops_pipeline.modelling.transformer_training") as team:
            learn(of, rows, course, taught, held, batch, during, key, knows=True, limit_s=of.time_limit_s, team=team)
        return {**weights, **course.best}, course


class _Told(Told, kw_only=True):
    """What everyone of a team goes by that learns an encoder of so many columns of ``texts``."""

    shape: Shape
    texts: int


@dataclass
class _Rows:
    """What is learned from; its texts lie in memory as tokens, each different one once."""

    texts: Sequence[TokensOfTexts]
    table: Any
    target: Any
    fixed: dict[str, Any]
    shape: Shape
    learning: InTorch

    def texts_and_table(self) -> dict[str, np.ndarray]:
        """What is given of the rows, as arrays; a sparse table in three."""
        found = {f"text {place} {name}": getattr(one, name) for place, one in enumerate(self.texts) for name in OF_TEXTS}
        if isinstance(self.table, np.ndarray):
            found["table"] = self.table
        elif self.table is not None:
            found |= {f"table {name}": np.asarray(getattr(self.table, name)) for name in SPARSE}
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it that is a number, for a team's other processes."""
        known = {"target": self.target, **{f"{OF_FIXED}{name}": each for name, each in self.fixed.items()}}
        return self.texts_and_table() | {name: each.numpy() for name, each in known.items()}

    @classmethod
    def of(cls, told: _Told, arrays: Mapping[str, np.ndarray]) -> _Rows:
        """What :meth:`arrays` are of."""
        texts = [TokensOfTexts(*(arrays[f"text {place} {name}"] for name in OF_TEXTS)) for place in range(told.texts)]
        table: Any = arrays.get("table")
        if "table data" in arrays:
            from scipy.sparse import csr_matrix

            *parts, shape = (arrays[f"table {name}"] for name in SPARSE)
            table = csr_matrix(tuple(parts), shape=tuple(shape.tolist()))
        fixed = {name.removeprefix(OF_FIXED): torch.from_numpy(each) for name, each in arrays.items() if name.startswith(OF_FIXED)}
        return cls(texts, table, torch.from_numpy(arrays["target"]), fixed, told.shape, InTorch(told.dropout))

    def batches(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        """Of rows that lie near each other in the order, those of like length go together."""
        found: list[np.ndarray] = []
        for start in range(0, len(order), ALIKE * size):
            window = order[start : start + ALIKE * size]
            sorted_ = np.argsort(self._lengths(window), kind="stable")
            steps = [sorted_[at : at + size] for at in range(0, len(window), size)]
            # Not by length: by where a step's first row stood, which was drawn.
            found += [window[step] for step in sorted(steps, key=lambda step: int(step[0]))]
        return found

    def losses(self, weights: Mapping[str, Any], chosen: np.ndarray) -> Iterator[Any]:
        for part in self._parts(chosen):
            said, target = self._said(weights, part, self.learning)
            if said.shape[1] == 1:
                yield functional.mse_loss(said[:, 0], target, reduction="sum") / len(chosen)
            else:
                yield functional.cross_entropy(said, target, reduction="sum") / len(chosen)

    def mean_loss(self, weights: Mapping[str, Any], chosen: np.ndarray) -> tuple[float, np.ndarray | None]:
        found, shares = 0.0, np.empty((len(chosen), weights["head"].shape[1]))
        places = {row: place for place, row in enumerate(chosen.tolist())}
        with torch.inference_mode():
            for part in self._parts(chosen):
                said, target = self._said(weights, part, InTorch())
                if said.shape[1] == 1:
                    found += float(((said[:, 0] - target) ** 2).sum())
                else:
                    found += float(functional.cross_entropy(said, target, reduction="sum"))
                    shares[[places[row] for row in part.tolist()]] = torch.softmax(said, -1).cpu().numpy()
        return found / len(chosen), shares if shares.shape[1] > 1 else None

    def _lengths(self, chosen: np.ndarray) -> np.ndarray:
        """Tokens of each row's texts."""
        lengths: np.ndarray = np.sum([one.lengths(chosen) for one in self.texts], axis=0)
        return lengths

    def _parts(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """The rows by length, so many at a time as memory is meant to hold."""
        lengths = self._lengths(chosen)
        order = np.argsort(lengths, kind="stable")
        which = np.cumsum(lengths[order]) // TOKENS_AT_ONCE
        for part in np.unique(which):
            yield chosen[order[which == part]]

    def _said(self, weights: Mapping[str, Any], chosen: np.ndarray, arrays: InTorch) -> tuple[Any, Any]:
        """What the head says of some rows, and the truth of each."""
        device, known = self.target.device, {**self.fixed, **weights}
        made = [self._embedded(one, known, chosen, arrays) for one in self.texts]
        if self.table is not None:
            numbers = self.table[chosen]
            numbers = numbers if isinstance(numbers, np.ndarray) else numbers.toarray()
            made.append(torch.tensor(numbers.astype(np.float32), device=device))
        said = torch.cat(made, dim=1) @ known["head"] + known["head bias"]
        return said, self.target[torch.as_tensor(chosen, device=device)]

    def _embedded(self, one: TokensOfTexts, known: Mapping[str, Any], chosen: np.ndarray, arrays: InTorch) -> Any:
        lengths, found, places = one.lengths(chosen), [], []
        for length in np.unique(lengths):
            at = np.flatnonzero(lengths == length)
            tokens = torch.as_tensor(one.tokens(chosen[at]), device=self.target.device)
            found.append(embeddings(arrays, known, tokens, self.shape))
            places.append(at)
        back = np.argsort(np.concatenate(places))
        return torch.cat(found).index_select(0, torch.as_tensor(back, device=self.target.device))


if __name__ == "__main__":
    follow(sys.argv[1:], _Told, _Rows.of, FASTER)
