"""What can be said of a column of texts without telling one: lengths, scripts, known words, and what of a text gives the target away."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.inference.ngrams import words_of

if TYPE_CHECKING:
    import polars as pl

ROWS = 20_000
"""Texts looked at, evenly spaced."""
LETTERS = 40
"""Letters of a text by which its script is told."""
MOST_WORDS = 2_000
"""Of a model's own texts, the words that most of them have: what later ones are compared with."""
KNOWN, HALF = 0.8, 0.5
NAMED, ALONE, LEAST = 0.5, 0.8, 100
"""From which share of rows on a text names its own class, or holds a code of its own; in so many rows at least."""


def length_of(words: int) -> str:
    """A text's length in words, roughly: each step is twice as long as the one before."""
    low = 1 << max(words.bit_length() - 1, 3)
    return "under 8" if words < 8 else f"{low:,} to {2 * low - 1:,}"


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return "Han" if name.startswith("CJK") else name.partition(" ")[0].capitalize()


def script_of(text: str) -> str:
    """The script of most of a text's first letters: Latin, Cyrillic, Han, …; ``none`` if it has no letter."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else "none"
    found = Counter(_script(letter) for letter in [each for each in text if each.isalpha()][:LETTERS])
    return found.most_common(1)[0][0] if found else "none"


def digest_of(word: str) -> str:
    """A private text's word in a summary of before; none is written now, for who has it can try words."""
    return blake2b(word.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def common_words(texts: pl.Series, least: int) -> list[str]:
    """The words that most texts have, each in at least so many, in the order of the alphabet."""
    counts: Counter[str] = Counter()
    for text in _looked_at(texts):
        counts.update(set(words_of(text)))
    return sorted(sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))[:MOST_WORDS])


def forms_of(texts: pl.Series, words: Collection[str], *, private: bool) -> pl.Series:
    """Each text as one of few categories: its script, its length, and how many of its words are among ``words``; null stays null.

    Of a private column nothing is said of words.
    """
    import polars as pl

    known = frozenset(words)
    of_words: dict[str, bool] = {}

    def form(text: str) -> str:
        found = words_of(text)
        if private and not known:
            return f"{script_of(text)}, {length_of(len(found))} words"
        for word in found:
            if word not in of_words:
                of_words[word] = (digest_of(word) if private else word) in known
        share = sum(of_words[word] for word in found) / len(found) if found else 0.0
        how = "no word" if not found else "most known" if share >= KNOWN else "half known" if share >= HALF else "few known"
        return f"{script_of(text)}, {length_of(len(found))} words, {how}"

    return pl.Series(texts.name, [None if text is None else form(text) for text in texts.cast(pl.String).to_list()], dtype=pl.String)


def facts_of(texts: pl.Series) -> dict[str, Any]:
    """Lengths in words and characters, scripts, and the shares that are empty (or null) or repeated; nothing that a text says."""
    looked_at = _looked_at(texts)
    lengths = np.array([len(words_of(text)) for text in looked_at] or [0])
    characters = np.array([len(text) for text in looked_at] or [0])
    scripts = Counter(map(script_of, looked_at)).most_common(5)
    blank = sum(not text.strip() for text in looked_at) / max(len(looked_at), 1)
    there = max(texts.len() - texts.null_count(), 1)
    return {
        "words": {"median": int(np.median(lengths)), "p95": int(np.quantile(lengths, 0.95)), "most": int(lengths.max())},
        "characters": {"median": int(np.median(characters)), "most": int(characters.max())},
        "scripts": {name: round(count / max(len(looked_at), 1), 4) for name, count in scripts},
        "empty_share": round((texts.null_count() + blank * (texts.len() - texts.null_count())) / max(texts.len(), 1), 4),
        "repeated_share": round(1 - texts.drop_nulls().n_unique() / there, 4),
    }


def remarks(name: str, texts: pl.Series, target: pl.Series, *, labels: Collection[str]) -> Iterator[str]:
    """What of a text may give the target away: the class's own name, and codes of single rows."""
    import polars as pl

    step = max(1, -(-texts.len() // ROWS))
    rows = pl.DataFrame({"text": texts.cast(pl.String), "target": target.cast(pl.String)}).gather_every(step).drop_nulls()
    if rows.height < LEAST:
        return
    found = [words_of(text) for text in rows["text"].to_list()]
    named = {label: frozenset(words_of(label)) for label in labels if len(label) >= 3 and not label.isdigit() and words_of(label)}
    held = [{label for label, words in named.items() if words.issubset(each)} for each in map(frozenset, found)]
    own, other = 0, 0
    for label, those in zip(rows["target"].to_list(), held, strict=True):
        own, other = own + (label in those), other + bool(those - {label})
    if (share := own / rows.height) - other / rows.height >= NAMED:
        yield f"'{name}' names the row's own class in {share:.0%} of the texts: is the target written into it?"
    codes = Counter(word for words in found for word in {each for each in words if len(each) >= 4 and any(map(str.isdigit, each))})
    alone = sum(any(codes[word] == 1 for word in set(words) if word in codes) for words in found) / rows.height
    if alone >= ALONE:
        yield f"'{name}' holds a code that no other row has in {alone:.0%} of the texts: an identifier tells nothing of new rows"


def _looked_at(texts: pl.Series) -> list[str]:
    import polars as pl

    return list(texts.drop_nulls().cast(pl.String).gather_every(max(1, -(-texts.len() // ROWS))).to_list())
