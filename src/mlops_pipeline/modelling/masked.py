"""What of a text a model listens to: its output on held-out rows when a word is taken out (occlusion, Zeiler and Fergus 2014)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlops_pipeline.contract.evaluation import MaskedWord, TextExample, TextImportance
from mlops_pipeline.contract.privacy import MIN_LEVEL_ROWS
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.ngrams import words_of, words_with_places
from mlops_pipeline.modelling.metrics import Predictions

ROWS, WORDS, EXAMPLES, LISTED = 150, 60, 6, 15
"""Held-out rows looked at, words of each that are taken out, rows shown, and words listed on each side."""
FEW_ROWS, MOST_READ = 20, 2_000_000
"""Rows where a text takes milliseconds, and words that are read again in all: of long texts fewer are looked at."""

Say = Callable[[Any], np.ndarray]
"""From raw columns to what the model says: (rows, classes), or (rows,)."""


def listened_to(contract: Contract, x: Any, ours: Predictions, say: Say, *, slowly: bool = False) -> list[TextImportance]:
    """For each text that is not private: words with the most weight, and a few rows with the weight of each word.

    A word's weight is by how much the positive class's probability, of several classes that of the likeliest, or the value, falls when
    the word is taken out. Words are listed that at least ``MIN_LEVEL_ROWS`` of the rows have.
    ``slowly``: a text takes milliseconds, so fewer are looked at.
    """
    names = [name for name, column in contract.columns.items() if column.kind == "text" and not column.private]
    if not names or len(x) < 10:
        return []
    rows = np.unique(np.linspace(0, len(x) - 1, min(FEW_ROWS if slowly else ROWS, len(x))).astype(int))
    return [_of_column(name, contract, x.iloc[rows].reset_index(drop=True), rows, ours, say) for name in names]


def _of_column(name: str, contract: Contract, x: Any, rows: np.ndarray, ours: Predictions, say: Say) -> TextImportance:
    texts = [str(text) for text in x[name]]
    cut, read = [], 0
    for row, text in enumerate(texts):
        words = [] if text == MISSING else words_of(text)
        taken = list(dict.fromkeys(words))[:WORDS]
        read += len(words) * len(taken)
        if read > MOST_READ:
            break
        cut += [(row, word) for word in taken]
    if not cut:
        return TextImportance(name)
    masked = x.iloc[[row for row, _ in cut]].reset_index(drop=True)
    masked[name] = np.array([without(texts[row], word) for row, word in cut], dtype=object)
    whole = say(x)
    places = [row for row, _ in cut]
    output = (_spoken(whole, ours)[places] - _spoken(say(masked), ours, whole[places])).tolist()
    weights: defaultdict[int, dict[str, float]] = defaultdict(dict)
    of_word: defaultdict[str, list[float]] = defaultdict(list)
    for (row, word), weight in zip(cut, output, strict=True):
        weights[row][word] = weight
        of_word[word].append(weight)
    means = {word: sum(found) / len(found) for word, found in of_word.items() if len(found) >= MIN_LEVEL_ROWS}
    ranked = sorted(means, key=lambda word: (-abs(means[word]), word))[: 2 * LISTED]
    listed = [MaskedWord(word, round(means[word], 6), len(of_word[word])) for word in sorted(ranked, key=lambda word: -means[word])]
    shown = _shown(whole, ours, rows, [row for row in range(len(texts)) if row in weights])
    return TextImportance(
        name,
        rows=len(weights),
        listed=listed,
        place=ours.positive,
        examples=[
            TextExample(
                truth=_truth(contract, ours, int(rows[row])),
                said=_said(contract, whole[row]),
                pieces=[(piece, round(weights[row].get(word, 0.0), 6)) for piece, word in _pieces(texts[row])],
            )
            for row in shown
        ],
    )


def without(text: str, word: str) -> str:
    """A text without a word, wherever it stands."""
    kept, at = [], 0
    for start, end, each in words_with_places(text):
        if each == word:
            kept.append(text[at:start])
            at = end
    return "".join([*kept, text[at:]])


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """A text in pieces: what stands there, and the word that it is, or nothing; at most some words."""
    at = 0
    for count, (start, end, word) in enumerate(words_with_places(text)):
        if count >= 2 * WORDS:
            yield "…", ""
            return
        if start > at:
            yield text[at:start], ""
        yield text[start:end], word
        at = end
    if at < len(text):
        yield text[at : at + 80], ""


def _spoken(said: np.ndarray, ours: Predictions, of: np.ndarray | None = None) -> np.ndarray:
    """The one number of each row that is looked at; of several classes the likeliest of ``of``."""
    if said.ndim == 1:
        return said
    if said.shape[1] == 2:
        return np.asarray(said[:, ours.positive])
    return np.asarray(said[np.arange(len(said)), (said if of is None else of).argmax(axis=1)])


def _shown(whole: np.ndarray, ours: Predictions, rows: np.ndarray, able: list[int]) -> list[int]:
    """Rows worth a look: half of them those that the model is furthest off on, the others those it is surest and right about."""
    if whole.ndim == 1:
        error = np.abs(whole - ours.y[rows].astype(np.float64))
    else:
        known = ours.y[rows].astype(int)
        error = 1 - np.where(known >= 0, whole[np.arange(len(whole)), known], 0.0)
    able = sorted(able, key=lambda row: (-error[row], row))
    half = min(EXAMPLES // 2, len(able) // 2)
    return [*able[len(able) - half :][::-1], *able[:half]]


def _truth(contract: Contract, ours: Predictions, row: int) -> str:
    if contract.target in contract.private:
        return ""
    value = ours.y[row]
    return f"{float(value):.6g}" if not contract.classes else str(contract.answers[int(value)]) if int(value) >= 0 else "never seen"


def _said(contract: Contract, said: Any) -> str:
    if not contract.classes:
        return f"{float(said):.6g}"
    place = int(np.argmax(said))
    return f"{contract.answers[place]} ({float(said[place]):.0%})"
