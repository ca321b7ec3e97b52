"""What later texts of a column are compared with: embeddings of some texts, and digests of words; no text, and nothing of a private one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import TextSummary
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.ngrams import words_of
from mlops_pipeline.inference.texts import FrozenEncoder
from mlops_pipeline.modelling.text_facts import length_of, script_of

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float32]

WORDS = "words"
"""What makes an embedding where a model has no frozen encoder: its words, hashed."""
SIZE = 128
"""Numbers of an embedding that are kept: a random projection leaves distances nearly as they are (Johnson and Lindenstrauss, 1984)."""
EMBEDDED, COUNTED = 400, 20_000
"""Texts that are embedded, and whose words are counted, evenly spaced."""
MOST_WORDS = 20_000
"""Words known by their digests, those that most texts have; of others nothing is known."""


@dataclass(frozen=True)
class Unseen:
    """Words of some texts that others have not: their share, and its standard error, as words of one text come together."""

    share: float
    error: float


def text_summary(texts: pl.Series, encoder: FrozenEncoder | None = None) -> TextSummary | None:
    """A column of texts, null or not, in some hundred kilobytes; None if it has no text. Raises :class:`PipelineError`."""
    if texts.null_count() == len(texts):
        return None
    counted = [words_of(text) for text in spaced(texts)]
    rows: Counter[str] = Counter()
    for words in counted:
        rows.update(set(words))
    kept = sorted(rows, key=lambda word: (-rows[word], word))[:MOST_WORDS]
    # A word that no other text has is one that a new text brings (Good, 1953).
    known = {word for word in kept if rows[word] > 1}
    alone = share_of(np.array([[sum(word not in known for word in words), len(words)] for words in counted], dtype=np.float64))
    embeddings = embedded(spaced(texts, EMBEDDED).to_list(), encoder)
    scale = float(np.abs(embeddings).max()) / 127 or 1.0
    return TextSummary(
        by=WORDS if encoder is None else encoder.by,
        scale=scale,
        embeddings=np.rint(embeddings / scale).astype(np.int8).tobytes(),
        vocabulary=np.unique(np.array([_number(word) for word in kept], dtype="<u4")).tobytes(),
        forms=forms_in(spaced(texts).to_list()),
        unseen=alone.share,
        unseen_error=alone.error,
    )


def embeddings_in(summary: TextSummary) -> Floats:
    """The kept embeddings, (texts, SIZE)."""
    return np.frombuffer(summary.embeddings, dtype=np.int8).reshape(-1, SIZE).astype(np.float32) * np.float32(summary.scale)


def forms_in(texts: Sequence[str]) -> dict[str, int]:
    """How many texts are of each script and length."""
    return dict(sorted(Counter(f"{script_of(text)}, {length_of(len(words_of(text)))}" for text in texts).items()))


def unseen_in(summary: TextSummary, texts: Sequence[str]) -> Unseen:
    """The share of the words of texts that the summary does not know."""
    known = frozenset(np.frombuffer(summary.vocabulary, dtype="<u4").tolist())
    of_word: dict[str, bool] = {}
    rows = np.zeros((len(texts), 2))
    for row, text in enumerate(texts):
        words = words_of(text)
        for word in words:
            if word not in of_word:
                of_word[word] = _number(word) not in known
        rows[row] = sum(of_word[word] for word in words), len(words)
    return share_of(rows)


def share_of(rows: npt.NDArray[np.float64]) -> Unseen:
    """A share of texts' words, from each text's count of those and of all: (texts, 2)."""
    some, every = rows.sum(axis=0)
    if not every:
        return Unseen(0.0, 0.0)
    share = float(some / every)
    return Unseen(share, float(np.sqrt(((rows[:, 0] - share * rows[:, 1]) ** 2).sum()) / every))


def embedded(texts: Sequence[str], encoder: FrozenEncoder | None) -> Floats:
    """Embeddings, (texts, SIZE), by an encoder or else by hashed words. Raises :class:`PipelineError` if it cannot be loaded."""
    if encoder is None:
        return np.stack([_hashed(words_of(text)) for text in texts]) if texts else np.zeros((0, SIZE), dtype=np.float32)
    whole = encoder.embedded(texts)
    return np.asarray(whole @ _projection(whole.shape[1]), dtype=np.float32)


def comparable(summary: TextSummary, encoders: Mapping[str, FrozenEncoder], name: str) -> FrozenEncoder | None:
    """What embedded a summary's texts, None for hashed words. Raises :class:`PipelineError` if it is not at hand."""
    if summary.by == WORDS:
        return None
    found = encoders.get(name)
    if found is None or found.by != summary.by:
        raise PipelineError("the encoder that the model reads by is not at hand")
    return found


def _number(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


def _hashed(words: Sequence[str]) -> Floats:
    """Words as a direction: each is a place and a sign, by its digest (Weinberger and others, 2009)."""
    made = np.zeros(SIZE, dtype=np.float32)
    for word, times in Counter(words).items():
        number = _number(word)
        made[number % SIZE] += (1 + np.log(times)) * (1 if number & 0x8000_0000 else -1)
    return np.asarray(made / (np.linalg.norm(made) or 1.0), dtype=np.float32)


@cache
def _projection(width: int) -> Floats:
    signs = np.random.default_rng(0).integers(0, 2, size=(width, SIZE)) * 2 - 1
    return np.asarray(signs / np.sqrt(SIZE), dtype=np.float32)


def spaced(texts: pl.Series, most: int = COUNTED) -> pl.Series:
    """The texts that are there, of more than so many an even choice."""
    import polars as pl

    there = texts.drop_nulls().cast(pl.String)
    return there.gather(np.unique(np.linspace(0, len(there) - 1, min(most, len(there))).astype(np.int64))) if len(there) else there
