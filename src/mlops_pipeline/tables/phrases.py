"""What of a text alone tells the target: a word or some in a row, or what stands in one place of it, such as behind «status»."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

USUAL, MOST_PLACES = 0.5, 20
"""A word that so many of the texts have marks a place, the one behind it; so many marks at most."""
FEW, NEARLY_ALL = 3, 0.9
"""An outcome is written in so many ways for each class at most, in so many of the texts."""
COMMON, MOST_COMMON, LONGEST, ROWS = 0.8, 40, 4, 5
"""Words that tell a class alone when they stand in a row are each in so many of its texts; so many words, so many in a row, in rows."""

Words = Sequence[Sequence[str]]
"""Of each text, in order; of a missing one none."""


@dataclass(frozen=True)
class Telling:
    """What of a text tells the target alone: in words, and with which AUC on rows that it was not chosen on, for each label."""

    what: str
    aucs: list[float]


def telling(
    words: Words, labels: Sequence[pl.Series], auc_of: Callable[[pl.Series, pl.Series], float], *, of_few: bool = False
) -> list[Telling]:
    """The best place and the best words in a row; ``auc_of`` gives the AUC of a label by a category, each half of the rows by the other.

    ``of_few``: only places with few values for each class, as where an outcome is written. Many may name the classes more finely.
    """
    found = _best_place(words, labels, auc_of, FEW if of_few else len(words)), _best_phrase(words, labels)
    return [each for each in found if each is not None]


def _best_place(
    words: Words, labels: Sequence[pl.Series], auc_of: Callable[[pl.Series, pl.Series], float], most_values: int
) -> Telling | None:
    """The place that tells most of those with so many values for each class at most."""
    import numpy as np
    import polars as pl

    classes = np.zeros(len(words), dtype=np.int64)
    for number, label in enumerate(labels, 1):
        classes[_truths(label)] = number
    best, best_right, named = None, -1.0, ""
    for name, values in _places(words).items():
        # Not by an array of texts, in which every one takes as much as the longest.
        known: dict[str, int] = {}
        codes = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
        most = most_values * max(len(labels), 2)
        if 2 <= len(known) <= len(words) / 2 and _usual_ones(codes) <= most and (right := _right(codes, classes)) > best_right:
            best, best_right, named = values, right, name
    if best is None:
        return None
    bins = pl.Series("bin", best, dtype=pl.String)
    return Telling(named, [auc_of(bins, label) for label in labels])


def _usual_ones(codes: np.ndarray) -> int:
    """How many values make up nearly all."""
    import numpy as np

    counts = np.sort(np.bincount(codes))[::-1]
    return int(np.searchsorted(np.cumsum(counts), NEARLY_ALL * len(codes))) + 1


def _places(words: Words) -> dict[str, list[str]]:
    """What stands in each place of every text, nothing where it has no such place."""
    rows = Counter(word for text in words for word in set(text))
    usual = [word for word, count in rows.items() if count >= USUAL * len(words)]
    marks = sorted(usual, key=lambda word: (-rows[word], word))[:MOST_PLACES]
    places = {
        "its first word": [text[0] if text else "" for text in words],
        "its last word": [text[-1] if text else "" for text in words],
        "its first code": [next((word for word in text if any(map(str.isdigit, word))), "") for text in words],
    }
    behind: dict[str, list[str]] = {mark: [""] * len(words) for mark in marks}
    for row, text in enumerate(words):
        for place in range(len(text) - 2, -1, -1):
            if text[place] in behind:
                behind[text[place]][row] = text[place + 1]
    return places | {f"the word behind «{mark}»": values for mark, values in behind.items()}


def _right(codes: np.ndarray, classes: np.ndarray) -> float:
    """How often the class that most rows of a half have with a code is that of the other half's rows."""
    import numpy as np

    counts = np.zeros((2, int(codes.max()) + 1, int(classes.max()) + 1), dtype=np.int32)
    half = np.arange(len(codes)) % 2
    np.add.at(counts, (half, codes, classes), 1)
    usual = np.where(counts.any(axis=2), counts.argmax(axis=2), -1)
    return float((usual[1 - half, codes] == classes).mean())


def _best_phrase(words: Words, labels: Sequence[pl.Series]) -> Telling | None:
    """The words in a row that best tell each label or its contrary, chosen on one half of the rows and measured on the other."""
    import numpy as np

    classes = np.stack([_truths(label) for label in labels])
    phrases = _phrases(words, classes)
    if not phrases:
        return None
    # Of several that tell as much the longest: it says most of where to look.
    names = sorted(phrases, key=lambda phrase: (-phrase.count(" "), phrase))
    stands = np.zeros((len(names), len(words)), dtype=np.float32)
    for row, name in enumerate(names):
        stands[row, phrases[name]] = 1
    half = np.arange(len(words)) % 2 == 0
    gains = [_gains(stands[:, part], classes[:, part]) for part in (half, ~half)]
    aucs = []
    for k in range(len(labels)):
        measured = 0.0
        for here, other in (gains, gains[::-1]):
            best = int(np.abs(here[:, k]).argmax())
            measured += float(np.sign(here[best, k]) * other[best, k]) / 2
        aucs.append(max(0.5, 0.5 + measured / 2))
    told = int(np.argmax(aucs))
    return Telling(f"the words «{names[int(np.abs(gains[0][:, told] + gains[1][:, told]).argmax())]}»", aucs)


def _phrases(words: Words, classes: np.ndarray) -> dict[str, list[int]]:
    """Words in a row that nearly all texts of a class, or of all others, may have, and the texts they stand in."""
    import numpy as np

    sizes = np.stack([classes.sum(axis=1), (~classes).sum(axis=1)])
    counts = [Counter[str]() for _ in range(len(classes) + 1)]
    of_class = np.where(classes.any(axis=0), classes.argmax(axis=0), len(classes)).tolist()
    for text, place in zip(words, of_class, strict=True):
        counts[place].update(set(text))
    every = sum(counts, Counter[str]())
    common: dict[str, float] = {}
    for own, size, rest in zip(counts, sizes[0].tolist(), sizes[1].tolist(), strict=False):
        for word, count in every.items():
            share = max(own[word] / max(size, 1), (count - own[word]) / max(rest, 1))
            if share >= COMMON:
                common[word] = max(share, common.get(word, 0.0))
    kept = set(sorted(common, key=lambda word: (-common[word], word))[:MOST_COMMON])
    found: dict[str, list[int]] = {}
    for row, text in enumerate(words):
        there: set[str] = set()
        run: list[str] = []
        for word in text:
            run = [*run, word][-LONGEST:] if word in kept else []
            there.update(" ".join(run[-size:]) for size in range(1, len(run) + 1))
        for phrase in there:
            found.setdefault(phrase, []).append(row)
    least = max(ROWS, COMMON * float(sizes[sizes > 0].min()))
    return {phrase: places for phrase, places in found.items() if len(places) >= least}


def _gains(stands: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """In how much more of each class's texts each stands than in the others, (phrases, classes)."""
    import numpy as np

    sides = [side.T.astype(np.float32) / np.maximum(side.sum(axis=1), 1) for side in (classes, ~classes)]
    gains: np.ndarray = stands @ sides[0] - stands @ sides[1]
    return gains


def _truths(label: pl.Series) -> np.ndarray:
    truths: np.ndarray = label.fill_null(value=False).to_numpy().astype(bool)
    return truths
