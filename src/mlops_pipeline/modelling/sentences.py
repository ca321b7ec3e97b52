"""A column of text as embeddings of a frozen encoder: a step of a scikit-learn pipeline that holds all that it reads text by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from mlops_pipeline.inference.sentences import REMEMBERED, SentenceEncoder, save
from mlops_pipeline.modelling.kept_embeddings import embedded_once, threads_to_use, told

if TYPE_CHECKING:
    from typing import Self


AGAIN = 10_000
"""Of so many texts that were read lately it is known what was made of them."""


class SentenceEmbeddings(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A column of text to numbers: each text's embedding.

    Fitted, it holds the encoder's graph and its tokenizer, and needs the folder no more.
    """

    def __init__(self, *, folder: str = "", max_tokens: int | None = None) -> None:
        self.folder, self.max_tokens = folder, max_tokens

    def fit(self, _texts: Any, _y: Any = None) -> Self:
        """Read the encoder; rows teach it nothing."""
        from mlops_pipeline.modelling.pretrained import pretrained

        found = pretrained(self.folder)
        self.max_tokens_ = min(self.max_tokens or found.max_tokens, found.places)
        self.tokenizer_, self.graph_, self.size_, self.digest_ = found.tokenizer, found.graph, found.width, found.digest
        return self

    def transform(self, texts: Any) -> Any:
        """Shape (rows, size), float32; each different text is embedded once. That some are cut is told."""
        given = np.asarray(texts, dtype=object).tolist()
        different = {text: place for place, text in enumerate(dict.fromkeys(given))}
        made, cut = self._embedded(list(different))
        places = [different[text] for text in given]
        if rows := int(cut[places].sum()):
            read = f"the first {self.max_tokens_:,} tokens are read of a text, and no more of {rows:,} of {len(given):,} rows"
            told(f"column '{getattr(texts, 'name', 'text')}': {read} (train.encoder_params.max_tokens)")
        return made[places]

    def _embedded(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return embedded_once(texts, f"{self.digest_[:16]}-{self.max_tokens_}", self.size_, self._made)

    def _made(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        encoder = self._encoder()
        made, cut = [np.empty((0, self.size_), dtype=np.float32)], list[bool]()
        for start in range(0, len(texts), REMEMBERED):
            part = texts[start : start + REMEMBERED]
            made.append(encoder.embedded(part))
            cut += [hash(text) in encoder.cut for text in part]
        return np.concatenate(made), np.array(cut, dtype=bool)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """A name for each number."""
        name = "text" if input_features is None else input_features[0]
        return np.array([f"{name} {place}" for place in range(self.size_)], dtype=object)

    def save_reader(self, folder: Path, weights: Any) -> tuple[str, int]:
        """Write what reads texts in a server; ``weights``, (size, outputs), are a linear model's, which it then asks, too."""
        save(folder, self.graph_.tobytes(), self.tokenizer_, self.max_tokens_, weights)
        return "sentences", self.size_ if weights is None else weights.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        """All but the loaded encoder, and what it has read."""
        return {name: value for name, value in super().__getstate__().items() if name not in ("_loaded", "_before")}

    def _encoder(self) -> SentenceEncoder:
        if not hasattr(self, "_loaded"):
            self._loaded = SentenceEncoder(self.tokenizer_, self.graph_.tobytes(), self.max_tokens_, threads_to_use())
        return self._loaded


class FineTunedEmbeddings(SentenceEmbeddings):
    """The same by an encoder that has learned from the rows, which is another after each fit: what it says is not kept."""

    @classmethod
    def of(cls, frozen: SentenceEmbeddings, graph: bytes) -> Self:
        """Another graph with the tokens of the encoder that it began as."""
        made = cls(folder=frozen.folder, max_tokens=frozen.max_tokens)
        made.max_tokens_, made.tokenizer_, made.size_ = frozen.max_tokens_, frozen.tokenizer_, frozen.size_
        made.graph_ = np.frombuffer(graph, dtype=np.uint8)
        made.digest_ = hashlib.sha256(graph + made.tokenizer_.encode()).hexdigest()
        return made

    def _embedded(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """What was read lately is not read again: evaluation shuffles a column at a time, and the texts stay the same."""
        before: dict[str, tuple[np.ndarray, bool]] = self.__dict__.get("_before", {})
        read = zip(*self._made([text for text in texts if text not in before]), strict=True)
        found = {text: before[text] if text in before else next(read) for text in texts}
        made, cut = np.empty((len(found), self.size_), dtype=np.float32), np.zeros(len(found), dtype=bool)
        for place, (embedding, is_cut) in enumerate(found.values()):
            made[place], cut[place] = embedding, is_cut
        lately = [*(text for text in before if text not in found), *found][-AGAIN:]
        self._before = {text: before[text] if text in before else (found[text][0].copy(), found[text][1]) for text in lately}
        return made, cut
