"""The step of an encoder that turns one column of texts into weighted n-grams, counted by the function that the server counts by."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from mlops_pipeline.contract.privacy import MIN_LEVEL_ROWS
from mlops_pipeline.inference import ngrams
from mlops_pipeline.inference.ngrams import NOTHING, Cut, Drawn, Ngrams, counted, hidden

if TYPE_CHECKING:
    from typing import Self


class WeightedNgrams(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Texts to TF-IDF: a sparse matrix, or with ``numbers`` a dense one of so many columns, by truncated SVD.

    An n-gram is kept if at least ``min_rows`` texts have it, and is one of the ``most`` that most texts have. A missing text has the one
    n-gram ``NOTHING``. The numbers of a dense matrix are rounded to 32 bits: what a graph is given. ``seed``: of what the decomposition
    draws.
    """

    seed = 0  # of models that were saved before there was another

    def __init__(
        self,
        *,
        of: str = "words",
        least: int = 1,
        most_of: int = 1,
        hidden: bool = False,
        min_rows: int = MIN_LEVEL_ROWS,
        most: int = 50_000,
        numbers: int | None = None,
        seed: int = 0,
    ) -> None:
        self.of, self.least, self.most_of, self.hidden = of, least, most_of, hidden
        self.min_rows, self.most, self.numbers, self.seed = min_rows, most, numbers, seed

    def fit(self, x: Any, y: Any = None) -> Self:
        """Learn which n-grams there are, and how rare each is."""
        self.fit_transform(x, y)
        return self

    def fit_transform(self, x: Any, _y: Any = None) -> Any:
        """Learn, and turn the same texts into numbers."""
        cut = Cut(self.of, self.least, self.most_of)
        number: dict[str, int] = {}
        of_words: dict[str, np.ndarray] = {}
        seen = [
            counted(text, cut, lambda pieces: [number.setdefault(piece, len(number)) for piece in pieces], of_words) for text in _listed(x)
        ]
        rows = np.bincount(np.concatenate([places for places, _ in seen]), minlength=len(number)) if number else np.zeros(0, np.intp)
        names = np.array(list(number), dtype=object)
        common = np.flatnonzero(rows >= self.min_rows)
        # Of those that as many rows have, the first of the alphabet.
        kept = sorted(common[np.lexsort((names[common].astype(str), -rows[common]))][: self.most], key=lambda place: names[place])
        plain = names[kept]
        if self.hidden and kept:
            self.salt_ = blake2b("\n".join(plain).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            shown = plain == NOTHING  # no word
            digests = np.where(shown, NOTHING, np.array(hidden(plain.tolist(), self.salt_)))
            # In the digests' own order: that of the alphabet would tell where a word stands.
            kept = [kept[place] for place in np.argsort(digests)]
            plain = np.sort(digests)
        # One text, for skops would write a node for each of many.
        self.kept_ = "\n".join(plain) if kept else NOTHING
        self.rarity_ = np.log((1 + len(seen)) / (1 + rows[kept])) + 1.0 if kept else np.ones(1)
        place_of = np.full(len(number), -1)
        place_of[kept] = np.arange(len(kept))
        matrix = self._matrix([self._ngrams.weighted(*_known(place_of[places], times)) for places, times in seen])
        self.components_: np.ndarray | None = None
        if self.numbers is None:
            return matrix
        self.components_ = _components(matrix, self.numbers, self.seed)
        return self.transform(x)

    def transform(self, x: Any) -> Any:
        """Shape (texts, n-grams), sparse float64; or (texts, numbers), dense float64."""
        if self.components_ is None:
            return self._matrix([self._ngrams.weights(text) for text in _listed(x)])
        return Drawn(self._ngrams, self.components_).numbers(_listed(x)).astype(np.float64)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """A name for each column that is made."""
        given = "text" if input_features is None else str(input_features[0])
        parts = self._ngrams.kept if self.components_ is None else [str(place) for place in range(self.components_.shape[1])]
        return np.array([f"{given} {self.of} {part}" for part in parts], dtype=object)

    def save_reader(self, folder: Path, weights: Any | None) -> tuple[str, int] | None:
        """Write what makes the numbers that a graph takes, and say its kind and width; None if these would be too many.

        ``weights`` (columns, outputs) are those of a linear model, which are then drawn in: it makes a number for each output.
        """
        drawn: np.ndarray | None = self.components_
        if weights is not None:
            drawn = weights if drawn is None else drawn @ weights
        if drawn is None:
            return None
        ngrams.save(folder, self._ngrams, drawn)
        return "ngrams", int(drawn.shape[1])

    def _cut(self) -> Cut:
        return Cut(self.of, self.least, self.most_of, self.hidden, getattr(self, "salt_", ""))

    @property
    def _ngrams(self) -> Ngrams:
        made = self.__dict__.get("_made")
        if made is None or made.rarity is not self.rarity_:
            made = self.__dict__["_made"] = Ngrams(self._cut(), self.kept_.split("\n"), self.rarity_)
        return made

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_made"}

    def _matrix(self, rows: list[tuple[np.ndarray, np.ndarray]]) -> Any:
        from scipy.sparse import csr_matrix

        ends = np.cumsum([0, *(len(places) for places, _ in rows)])
        places, weights = (np.concatenate([row[part] for row in rows]) if rows else np.empty(0) for part in (0, 1))
        return csr_matrix((weights, places, ends), shape=(len(rows), len(self.rarity_)))


def _listed(x: Any) -> list[str]:
    return list(np.asarray(x, dtype=object).ravel())


def _known(places: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(places)
    order = order[places[order] >= 0]
    return places[order], times[order]


def _components(matrix: Any, numbers: int, seed: int) -> np.ndarray:
    """Shape (n-grams, numbers); fewer numbers where there are fewer n-grams or texts."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    width = min(numbers, min(matrix.shape) - 1)
    if width < 1:
        return np.ones((matrix.shape[1], 1))
    # The last bits of a product depend on how many threads share it.
    with threadpool_limits(limits={"blas": 1}):
        return np.ascontiguousarray(TruncatedSVD(n_components=width, random_state=seed).fit(matrix).components_.T)
