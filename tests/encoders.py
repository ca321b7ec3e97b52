"""A tiny encoder of text in a folder, as authors publish one: weights by chance, a tokenizer of a few words."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS = ("works", "great", "broke", "at", "once", "sehr", "schön", "leider", "zu", "spät", "good", "bad", "##s", "a", "b")

needs_tokenizers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("tokenizers", "safetensors")),
    reason="tokenizers and safetensors are not installed: make text",
)


def write_encoder(folder: Path, kind: str = "bert", width: int = 16, **config: Any) -> Path:
    """Two layers of ``width`` numbers, normalised means, and a tokenizer that cuts after 8 tokens if nobody says otherwise."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: place for place, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # a token of text
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(strip_accents=False), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.enable_padding(length=8)
    made.enable_truncation(8)
    made.save(str(folder / "tokenizer.json"))
    draw = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return draw.normal(scale=0.3, size=shape).astype(np.float32)

    def near_one() -> np.ndarray:
        return 1 + weights(width)

    names = _names(kind)
    found = {
        f"{names['embeddings']}word_embeddings.weight": 4 * weights(len(vocabulary), width),
        f"{names['embeddings']}position_embeddings.weight": weights(40, width),
        f"{names['embeddings']}LayerNorm.weight": near_one(),
        f"{names['embeddings']}LayerNorm.bias": weights(width),
    }
    if kind != "distilbert":
        found[f"{names['embeddings']}token_type_embeddings.weight"] = weights(2, width)
    for layer in range(2):
        for name, shape in (*((each, (width, width)) for each in "qkvo"), ("wide", (2 * width, width)), ("narrow", (width, 2 * width))):
            found[f"{names['layer']}{layer}.{names[name]}.weight"] = weights(*shape)
            found[f"{names['layer']}{layer}.{names[name]}.bias"] = weights(shape[0])
        for name in ("norm 0", "norm 1"):
            found[f"{names['layer']}{layer}.{names[name]}.weight"] = near_one()
            found[f"{names['layer']}{layer}.{names[name]}.bias"] = weights(width)
    save_file(found, str(folder / "model.safetensors"))
    layers = {"n_layers": 2, "n_heads": 4} if kind == "distilbert" else {"num_hidden_layers": 2, "num_attention_heads": 4}
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **layers, "pad_token_id": 0, **config}), encoding="utf-8")
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}), encoding="utf-8")
    return folder


def _names(kind: str) -> dict[str, str]:
    if kind == "distilbert":
        attention = {name: f"attention.{name}_lin" for name in "qkv"} | {"o": "attention.out_lin"}
        more = {"wide": "ffn.lin1", "narrow": "ffn.lin2", "norm 0": "sa_layer_norm", "norm 1": "output_layer_norm"}
        return {"embeddings": "distilbert.embeddings.", "layer": "distilbert.transformer.layer.", **attention, **more}
    before = "" if kind == "bert" else f"{kind}."
    own = {"q": "query", "k": "key", "v": "value"}
    attention = {name: f"attention.self.{word}" for name, word in own.items()} | {"o": "attention.output.dense"}
    more = {"wide": "intermediate.dense", "narrow": "output.dense", "norm 0": "attention.output.LayerNorm", "norm 1": "output.LayerNorm"}
    return {"embeddings": f"{before}embeddings.", "layer": f"{before}encoder.layer.", **attention, **more}
