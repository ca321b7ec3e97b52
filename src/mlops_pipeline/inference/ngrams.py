"""Texts to weighted n-grams (TF-IDF): one small function that training and every server count by, in any language.

A word is a run of letters and digits with the marks on them; a letter of Chinese or Japanese and a sign such as an emoji are words of their
own. Texts are taken in Unicode's form NFKC and in small letters. Each n-gram that training kept weighs (1 + log of how often it is there)
times how rare it was, and a text's weights are scaled to length 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import msgspec
import numpy as np

from mlops_pipeline.contract.values import MISSING


def _ranges(numbers: Iterable[int]) -> str:
    """Letters by their numbers, growing, as a class of a regular expression has them."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in runs)


# Han and kana stand alone.
_ALONE = "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SIGNS = "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_LOOKS = range(0xFE00, 0xFE10)
"""Marks that only choose a sign's look, and are no part of a word."""


@cache
def _word() -> re.Pattern[str]:
    """A word: made when a text is first read, since it asks Unicode for every letter.

    Python's \\w knows no marks that combine, by which many scripts write vowels.
    """
    combining = (each for each in range(0x300, 0x20000) if category(chr(each)) in ("Mn", "Mc") and each not in _LOOKS)
    marks = _ranges(combining) + "\u200c\u200d"
    return re.compile(rf"[{_ALONE}{_SIGNS}]|(?![{_ALONE}])\w(?:(?![{_ALONE}])[\w{marks}])*")


_PLAIN = re.compile(r"\w+", re.ASCII)

NOTHING = "\u2063"
"""The one n-gram of a text that is missing: no word, for it is a sign that nobody sees."""


_NONE = (np.empty(0, dtype=np.intp), np.empty(0))
_ONE = np.ones(1, dtype=bool)

LONG, MANY = 40, 50_000
"""Characters of a word whose n-grams are kept, and how many such words."""


class Cut(msgspec.Struct, frozen=True):
    """How texts are cut: n-grams of ``words``, or of the ``characters`` of each word, from ``least`` to ``most``.

    With ``hidden`` n-grams are known by digests alone, of this ``salt``: of a private column.
    """

    of: str = "words"
    least: int = 1
    most: int = 1
    hidden: bool = False
    salt: str = ""


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    if text.isascii():
        return _PLAIN.findall(text.lower())
    return _word().findall(normalize("NFKC", text).lower())


def words_with_places(text: str) -> list[tuple[int, int, str]]:
    """Where each word of a text begins and ends, and the word as it is counted, for those that stand in the text as they are counted."""
    found = ((match.start(), match.end(), words_of(match[0])) for match in _word().finditer(text))
    return [(start, end, words[0]) for start, end, words in found if len(words) == 1]


def pieces_of(text: str, cut: Cut) -> list[str]:
    """The n-grams of a text, as often as they are there."""
    if text == MISSING:
        return [NOTHING]
    words = words_of(text)
    if cut.of == "characters":
        return [piece for word in words for piece in _parts_of(word, cut)]
    found = words if cut.least == 1 else []
    for size in range(max(2, cut.least), cut.most + 1):
        found = [*found, *map(" ".join, zip(*(words[at:] for at in range(size)), strict=False))]
    return hidden(found, cut.salt) if cut.hidden else found


def _parts_of(word: str, cut: Cut) -> list[str]:
    padded = f" {word} "
    found = []
    for size in range(cut.least, cut.most + 1):
        found += [padded[at : at + size] for at in range(max(1, len(padded) - size + 1))]
    return hidden(found, cut.salt) if cut.hidden else found


def hidden(pieces: Sequence[str], salt: str) -> list[str]:
    """The digest of each n-gram."""
    key = salt.encode()
    return [blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=6, key=key).hexdigest() for piece in pieces]


Numbered = Callable[[list[str]], list[int]]
"""From n-grams to their numbers, without those that have none."""


def counted(text: str, cut: Cut, numbered: Numbered, of_words: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a text's n-grams, growing, and how often each is there, float64.

    ``of_words`` keeps the numbers of the characters of words that are met again.
    """
    if cut.of != "characters" or text == MISSING:
        places = np.array(numbered(pieces_of(text, cut)), dtype=np.intp)
    else:
        found = []
        for word in words_of(text):
            parts = of_words.get(word)
            if parts is None:
                parts = np.array(numbered(_parts_of(word, cut)), dtype=np.intp)
                if len(word) <= LONG:
                    if len(of_words) >= MANY:
                        of_words.clear()
                    of_words[word] = parts
            found.append(parts)
        places = np.concatenate(found) if found else _NONE[0]
    if not len(places):
        return _NONE
    places.sort()
    starts = np.flatnonzero(np.concatenate([_ONE, places[1:] != places[:-1]]))
    return places[starts], np.diff(starts, append=len(places)).astype(np.float64)


class Ngrams:
    """The n-grams that training kept, with how rare each was: ``rarity``, float64 (kept,)."""

    def __init__(self, cut: Cut, kept: Sequence[str], rarity: np.ndarray) -> None:
        self.cut, self.kept, self.rarity = cut, list(kept), rarity
        self._place = {piece: place for place, piece in enumerate(self.kept)}
        self._of_words: dict[str, np.ndarray] = {}

    def weights(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Which n-grams a text has, growing, and their weights, float64; both empty if it has none that is known."""
        return self.weighted(*counted(text, self.cut, self._known, self._of_words))

    def _known(self, pieces: list[str]) -> list[int]:
        return [place for place in map(self._place.get, pieces) if place is not None]

    def weighted(self, places: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of counted n-grams: the place of each, growing, and how often it is there."""
        if not len(places):
            return _NONE
        weights = (1.0 + np.log(times)) * self.rarity[places]
        # No BLAS here and below: its sums depend on how many threads share them.
        return places, weights / (math.sqrt(np.add.reduce(weights * weights)) or 1.0)


class Drawn:
    """A reader: n-grams, drawn together by a matrix, float64 (kept, width), to a few numbers: of a linear model, or of a projection."""

    def __init__(self, ngrams: Ngrams, matrix: np.ndarray) -> None:
        self._ngrams, self._matrix = ngrams, matrix
        self.width = int(matrix.shape[1])

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width), float32."""
        made = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            places, weights = self._ngrams.weights(text)
            if len(places):
                made[row] = np.add.reduce(weights[:, None] * self._matrix[places], axis=0)
        return made


def save(folder: Path, ngrams: Ngrams, matrix: np.ndarray) -> None:
    """Write a reader: a JSON file and two arrays."""
    folder.mkdir(parents=True)
    content: dict[str, Any] = {"cut": ngrams.cut, "kept": ngrams.kept}
    (folder / "ngrams.json").write_bytes(msgspec.json.encode(content))
    np.save(folder / "rarity.npy", ngrams.rarity, allow_pickle=False)
    np.save(folder / "matrix.npy", np.ascontiguousarray(matrix, dtype=np.float64), allow_pickle=False)


class _Saved(msgspec.Struct):
    cut: Cut
    kept: list[str]


def load(folder: Path, threads: int) -> Drawn:  # noqa: ARG001  # a text takes microseconds
    """The reader that :func:`save` wrote. Raises ``OSError``, ``ValueError`` and msgspec's errors."""
    saved = msgspec.json.decode((folder / "ngrams.json").read_bytes(), type=_Saved)
    rarity, matrix = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("rarity", "matrix"))
    if rarity.shape != (len(saved.kept),) or matrix.ndim != 2 or len(matrix) != len(saved.kept):
        raise ValueError(f"{folder}: its arrays do not fit its n-grams")
    return Drawn(Ngrams(saved.cut, saved.kept, rarity), matrix)
