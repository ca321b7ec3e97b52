"""Texts to embeddings: tokens by ``tokenizers``, the encoder by ONNX Runtime; the same in training and in the server."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.session import session_of
from mlops_pipeline.plugins import DISTRIBUTION

GRAPH, TOKENIZER = "encoder.onnx", "tokenizer.json"
"""What an encoder's folder holds."""
ABOUT, HEAD = "about.json", "head.npy"
"""What a reader's folder holds."""
ENCODERS = "encoders"
"""Beside readers' folders: a folder for each encoder, named by its digest, which several readers may share."""

TOKENS_A_RUN = 512
"""Of texts of one length that go through the encoder together: more gain nothing, and leave the cache."""

LONG = 48
"""Characters a token, on average, beyond which a text is cut by characters before it is cut by tokens."""

REMEMBERED = 2**16
"""Texts that were cut lately, by which an answer says so."""


class Tokens:
    """A tokenizer that reads at most so many tokens of a text, the special ones among them."""

    def __init__(self, content: str, max_tokens: int) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise PipelineError(f"text is read by tokenizers, which is not installed: pip install '{DISTRIBUTION}[text]'") from error
        self.max_tokens = max_tokens
        self._whole = Tokenizer.from_str(content)
        self._whole.no_padding()
        self._whole.enable_truncation(max_tokens)

    def of(self, text: str) -> tuple[tuple[int, ...], bool]:
        """The tokens of a text, and whether some are left out; a null is an empty text."""
        text = "" if text == MISSING else text
        longest = LONG * self.max_tokens
        if len(text) > longest:
            # A text of a megabyte takes a second: what comes first is enough, if it fills the tokens.
            start = text[:longest].rpartition(" ")[0]
            found = self._encoded(start)
            if found.overflowing:
                return tuple(found.ids), True
        found = self._encoded(text)
        return tuple(found.ids), bool(found.overflowing)

    def _encoded(self, text: str) -> Any:
        try:
            return self._whole.encode(text)
        except (TypeError, UnicodeError):  # half of a surrogate pair
            return self._whole.encode(text.encode("utf-8", "replace").decode("utf-8"))


class Cut:
    """Which texts were cut after so many ``tokens`` lately, by their hashes."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._lately: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, text: object) -> bool:
        return text in self._lately

    def add(self, text: int) -> None:
        self._lately[text] = None
        if len(self._lately) > REMEMBERED:
            self._lately.popitem(last=False)


class Graph:
    """An encoder's graph, loaded: ``run`` takes tokens, int64 (rows, tokens), and gives embeddings, float32 (rows, size); in any thread."""

    def __init__(self, content: bytes) -> None:
        session = session_of(content)
        self._run = session.run
        self.size = int(session.get_outputs()[0].shape[1])

    def run(self, tokens: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = self._run(None, {"tokens": tokens})[0]
        return embeddings


_loading = threading.Lock()
_graphs: WeakValueDictionary[bytes, Graph] = WeakValueDictionary()
_tokens: WeakValueDictionary[tuple[bytes, int], Tokens] = WeakValueDictionary()
"""What is loaded in this process, by digest: columns of a model, and models of one encoder, share it."""


def _graph_of(content: bytes) -> Graph:
    key = blake2b(content, digest_size=16).digest()
    with _loading:
        found = _graphs.get(key)
        if found is None:
            found = _graphs[key] = Graph(content)
        return found


def _tokens_of(content: str, max_tokens: int) -> Tokens:
    key = blake2b(content.encode(), digest_size=16).digest(), max_tokens
    with _loading:
        found = _tokens.get(key)
        if found is None:
            found = _tokens[key] = Tokens(content, max_tokens)
        return found


class SentenceEncoder:
    """An encoder whose graph takes tokens, int64 (rows, tokens), and gives embeddings, float32 (rows, size).

    Texts of equally many tokens go through it together, so none is padded, and a row's bits do not depend on its neighbours. With
    ``alone`` each goes by itself: a quantised graph rounds by the greatest number of all rows that it is given.
    """

    def __init__(
        self, tokenizer: str, graph: bytes, max_tokens: int, threads: int = 1, *, alone: bool = False, head: np.ndarray | None = None
    ) -> None:
        self._tokens, self._graph = _tokens_of(tokenizer, max_tokens), _graph_of(graph)
        self._alone, self._head = alone, head
        self.size = self._graph.size
        self.width = self.size if head is None else head.shape[1]
        self.cut = Cut(max_tokens)
        self._pool = ThreadPoolExecutor(threads, "encoder") if threads > 1 else None

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width), float32: their embeddings, or what the head makes of them."""
        made = self.embedded(texts)
        # No BLAS: its sums depend on how many rows there are.
        return made if self._head is None else np.einsum("ij,jk->ik", made.astype(np.float64), self._head).astype(np.float32)

    def embedded(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings, float32 (rows, size)."""
        of_length: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for place, text in enumerate(texts):
            tokens, is_cut = self._tokens.of(text)
            if is_cut:
                self.cut.add(hash(text))
            of_length.setdefault(len(tokens), []).append((place, tokens))
        runs = [
            rows[start : start + together]
            for length, rows in sorted(of_length.items())
            for together in (1 if self._alone else max(1, TOKENS_A_RUN // max(length, 1)),)
            for start in range(0, len(rows), together)
        ]
        found = np.empty((len(texts), self.size), dtype=np.float32)
        said = map(self._said, runs) if self._pool is None or len(runs) == 1 else self._pool.map(self._said, runs)
        for rows, embeddings in zip(runs, said, strict=True):
            found[[place for place, _ in rows]] = embeddings
        return found

    def _said(self, rows: list[tuple[int, tuple[int, ...]]]) -> np.ndarray:
        return self._graph.run(np.array([tokens for _, tokens in rows], dtype=np.int64))


def save(folder: Path, graph: bytes, tokenizer: str, max_tokens: int, head: np.ndarray | None) -> None:
    """Write a reader, with a linear ``head``, float64 (size, outputs), if it has one, and its encoder if no other reader has written it."""
    digest = blake2b(tokenizer.encode(), digest_size=8, key=blake2b(graph).digest()).hexdigest()
    encoder = folder.parent / ENCODERS / digest
    if not encoder.exists():
        encoder.mkdir(parents=True)
        (encoder / GRAPH).write_bytes(graph)
        (encoder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    folder.mkdir(parents=True)
    (folder / ABOUT).write_bytes(msgspec.json.encode(About(max_tokens, encoder=digest)))
    if head is not None:
        np.save(folder / HEAD, np.ascontiguousarray(head, dtype=np.float64), allow_pickle=False)


class About(msgspec.Struct, frozen=True):
    """How a reader reads: at most so many tokens, each text by itself if its graph is quantised, by which encoder."""

    max_tokens: int
    alone: bool = False
    encoder: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")] = ""
    """The name of its folder; empty in versions of before, whose readers hold one each."""


def about(folder: Path) -> About:
    """What a reader's folder says of it."""
    return msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)


def encoder_of(folder: Path) -> Path:
    """Where the encoder of a reader's folder lies."""
    named = about(folder).encoder
    return folder.parent / ENCODERS / named if named else folder


def load(folder: Path, threads: int) -> SentenceEncoder:
    """The reader that :func:`save` wrote. Raises :class:`PipelineError` without tokenizers, ``OSError``, ``ValueError``."""
    told, encoder = about(folder), encoder_of(folder)
    head = np.load(folder / HEAD, allow_pickle=False) if (folder / HEAD).exists() else None
    tokenizer, graph = (encoder / TOKENIZER).read_text(encoding="utf-8"), (encoder / GRAPH).read_bytes()
    return SentenceEncoder(tokenizer, graph, told.max_tokens, threads, alone=told.alone, head=head)
