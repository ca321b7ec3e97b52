"""An encoder of text as its authors publish it, in a folder: read without their code, without pickle and without a download."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.sentences import PACKAGE, Sentences
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.modelling.transformer import Shape
from mlops_pipeline.modelling.transformer_graph import encoder_graph

KEY = "train.encoder_params.folder"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What there must be."""
MORE = ("tokenizer_config.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")
"""What is read if it is there."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder's weights (float32, by our names), its shape, its tokenizer's file, and how many tokens its authors let it read.

    ``graph`` is the ONNX file's bytes, uint8: one array, that a model of several texts holds once.
    """

    weights: Mapping[str, np.ndarray]
    shape: Shape
    tokenizer: str
    max_tokens: int
    graph: np.ndarray
    digest: str
    """Of the graph and the tokenizer."""

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return self.shape.width

    @property
    def places(self) -> int:
        """Tokens that it can read at most."""
        return len(self.weights["places"])


def folder_of(written: str) -> Path:
    """Where an encoder lies: a folder of the project, or one inside an installed package. Raises :class:`PipelineError`."""
    if not written.startswith(PACKAGE):
        return (plugins.source().project or Path()) / written
    name, _, within = written.removeprefix(PACKAGE).partition("/")
    try:
        found = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        found = None
    places = [] if found is None else list(found.submodule_search_locations or ())
    if not places:
        raise PipelineError(f"{KEY} = '{written}': there is no installed package '{name}': install it, or name a folder")
    return Path(places[0]) / within


def files_of(written: str) -> list[Path]:
    """The files of an encoder that decide what it says. Raises :class:`PipelineError` if one that must be there is not."""
    folder = folder_of(written)
    for name in FILES:
        if not (folder / name).is_file():
            raise PipelineError(
                f"{KEY} = '{written}': {folder} holds no {name}: put the encoder's files there, as its authors publish them"
            )
    return [folder / name for name in (*FILES, *MORE) if (folder / name).is_file()]


def files_read(settings: Sentences) -> list[Path]:
    """What a fit with these settings reads besides rows."""
    return files_of(settings.folder)


def pretrained(written: str) -> Pretrained:
    """The encoder of a folder. Raises :class:`PipelineError` if it is damaged, or of a kind that is not known here."""
    stats = [file.stat() for file in files_of(written)]
    return _read(written, folder_of(written), tuple((each.st_mtime_ns, each.st_size) for each in stats))


@lru_cache(maxsize=1)
def _read(written: str, folder: Path, _as_of: tuple[tuple[int, int], ...]) -> Pretrained:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise PipelineError(
            f"{KEY}: its weights are read by safetensors: pip install '{plugins.DISTRIBUTION}[text]' or make text"
        ) from error
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kind = str(config.get("model_type"))
        if kind not in _KINDS:
            raise PipelineError(f"{KEY} = '{written}': is a {kind}, which is not known here: use one of {', '.join(_KINDS)}")
        of = _KINDS[kind](config, _named(load_file(folder / "model.safetensors")))
        pooling, normalised = _pooling(folder)
        shape = Shape(of.layers, of.heads, of.weights["words"].shape[1], of.epsilon, pooling, normalised)
        graph, tokenizer = encoder_graph(of.weights, shape), (folder / "tokenizer.json").read_text(encoding="utf-8")
        return Pretrained(
            weights=of.weights,
            shape=shape,
            graph=np.frombuffer(graph, dtype=np.uint8),
            digest=hashlib.sha256(graph + tokenizer.encode()).hexdigest(),
            tokenizer=tokenizer,
            max_tokens=min(_max_tokens(folder), len(of.weights["places"])),
        )
    except PipelineError:
        raise
    except KeyError as error:
        raise PipelineError(f"{KEY} = '{written}': has no {error}, as an encoder of its kind has: fetch it anew") from error
    except Exception as error:  # whatever a damaged file makes of a reader
        raise PipelineError(f"{KEY} = '{written}': cannot be read ({one_line(error)}): fetch it anew") from error


@dataclass(frozen=True)
class _Of:
    weights: dict[str, np.ndarray]
    layers: int
    heads: int
    epsilon: float


def _named(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as float32, without the name that a model with a head puts before its encoder's."""
    before = next((name.partition("embeddings.")[0] for name in found if "embeddings.word_embeddings" in name), "")
    return {name.removeprefix(before): each.astype(np.float32) for name, each in found.items() if each.dtype.kind == "f"}


def _bert(config: Mapping[str, Any], found: Mapping[str, np.ndarray], first_place: int = 0) -> _Of:
    _refuse_unknown(config, "hidden_act")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise PipelineError(f"{KEY}: its places are {config['position_embedding_type']}, which is not known here: use another encoder")
    heads = int(config["num_attention_heads"])
    places = found["embeddings.position_embeddings.weight"][first_place:]
    weights = {
        "words": found["embeddings.word_embeddings.weight"],
        "places": places + found["embeddings.token_type_embeddings.weight"][0],
        "scale": found["embeddings.LayerNorm.weight"],
        "shift": found["embeddings.LayerNorm.bias"],
    }
    layers = int(config["num_hidden_layers"])
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        own = {
            "query": f"{at}attention.self.query",
            "key": f"{at}attention.self.key",
            "value": f"{at}attention.self.value",
            "out": f"{at}attention.output.dense",
            "norm 0": f"{at}attention.output.LayerNorm",
            "wide": f"{at}intermediate.dense",
            "narrow": f"{at}output.dense",
            "norm 1": f"{at}output.LayerNorm",
        }
        weights |= _layer(layer, heads, found, own)
    return _Of(weights, layers, heads, float(config.get("layer_norm_eps", 1e-12)))


def _roberta(config: Mapping[str, Any], found: Mapping[str, np.ndarray]) -> _Of:
    # Its places are counted from behind the one that stands for padding.
    return _bert(config, found, int(config.get("pad_token_id", 1)) + 1)


def _distilbert(config: Mapping[str, Any], found: Mapping[str, np.ndarray]) -> _Of:
    _refuse_unknown(config, "activation")
    heads, layers = int(config["n_heads"]), int(config["n_layers"])
    weights = {
        "words": found["embeddings.word_embeddings.weight"],
        "places": found["embeddings.position_embeddings.weight"],
        "scale": found["embeddings.LayerNorm.weight"],
        "shift": found["embeddings.LayerNorm.bias"],
    }
    for layer in range(layers):
        at = f"transformer.layer.{layer}."
        own = {
            "query": f"{at}attention.q_lin",
            "key": f"{at}attention.k_lin",
            "value": f"{at}attention.v_lin",
            "out": f"{at}attention.out_lin",
            "norm 0": f"{at}sa_layer_norm",
            "wide": f"{at}ffn.lin1",
            "narrow": f"{at}ffn.lin2",
            "norm 1": f"{at}output_layer_norm",
        }
        weights |= _layer(layer, heads, found, own)
    return _Of(weights, layers, heads, 1e-12)


_KINDS = {"bert": _bert, "distilbert": _distilbert, "roberta": _roberta, "xlm-roberta": _roberta, "camembert": _roberta}


def _refuse_unknown(config: Mapping[str, Any], key: str) -> None:
    if config.get(key, "gelu") != "gelu":
        raise PipelineError(f"{KEY}: its {key} is {config[key]!r}, which is not known here: use an encoder with gelu")


def _layer(layer: int, heads: int, found: Mapping[str, np.ndarray], own: Mapping[str, str]) -> dict[str, np.ndarray]:
    """One layer's weights by our names; matrices take rows from the left, and queries come scaled."""
    made = {}
    for name in ("out", "wide", "narrow"):
        made[f"{layer} {name}"] = found[f"{own[name]}.weight"].T
        made[f"{layer} {name} bias"] = found[f"{own[name]}.bias"]
    matrices = [found[f"{own[name]}.weight"].T for name in ("query", "key", "value")]
    biases = [found[f"{own[name]}.bias"] for name in ("query", "key", "value")]
    scale = np.float32((matrices[0].shape[1] / heads) ** -0.5)
    made[f"{layer} heads"] = np.concatenate([matrices[0] * scale, *matrices[1:]], axis=1)
    made[f"{layer} heads bias"] = np.concatenate([biases[0] * scale, *biases[1:]])
    for place in range(2):
        made[f"{layer} scale {place}"] = found[f"{own[f'norm {place}']}.weight"]
        made[f"{layer} shift {place}"] = found[f"{own[f'norm {place}']}.bias"]
    return {name: np.ascontiguousarray(each) for name, each in made.items()}


def _pooling(folder: Path) -> tuple[Any, bool]:
    """How tokens become a text, and whether that is brought to length 1, as sentence-transformers writes it; else their mean."""
    pooling, normalised = "mean", False
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_bytes()):
            kind = str(module["type"]).rpartition(".")[2]
            if kind == "Normalize":
                normalised = True
            elif kind not in ("Transformer", "Pooling"):
                raise PipelineError(f"{KEY}: its authors let a {kind} follow, which is not known here: use another encoder")
    written = folder / "1_Pooling/config.json"
    if written.is_file():
        told = json.loads(written.read_bytes())
        modes = [name for name, is_on in told.items() if name.startswith("pooling_mode_") and is_on is True]
        if modes not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
            raise PipelineError(f"{KEY}: its authors pool by {', '.join(modes) or 'nothing'}, which is not known here: use another encoder")
        pooling = "first" if modes == ["pooling_mode_cls_token"] else "mean"
    return pooling, normalised


def _max_tokens(folder: Path) -> int:
    """How many tokens its authors let it read."""
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / file).is_file():
            found = json.loads((folder / file).read_bytes()).get(key)
            if isinstance(found, int | float) and 0 < found < 1e6:
                return int(found)
    return 512
