"""What a pretrained encoder of text may be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlops_pipeline.config.tree import Frozen

PACKAGE = "package:"
"""How a folder inside an installed package is written: ``package:NAME/FOLDER``."""


class Sentences(Frozen):
    """For sentence embeddings: where the encoder lies, and what becomes of the columns beside the text."""

    folder: str = Field(
        min_length=1,
        description="config.json, model.safetensors and tokenizer.json, as its authors publish them: a folder of the project, "
        "or package:NAME/FOLDER inside an installed package; nothing is downloaded",
    )
    max_tokens: int | None = Field(None, ge=8, le=8192, description="tokens of a text that are read; default: as its authors say")
    beside: Literal["one_hot", "target_mean", "ordinal", "ordinal_imputed", "native"] = Field(
        "one_hot", description="encoder of the columns that are not text: one_hot for linear models, native for LightGBM"
    )


class FineTuned(Frozen):
    """For fine-tuning: how much of the encoder learns, how fast and how long. Where it lies stands in ``encoder_params``."""

    layers: int | None = Field(2, ge=0, le=96, description="so many of its last layers learn, 0: the head alone; null: all of it")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of a layer's numbers that a step leaves out")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="of the encoder; the head learns 20 times as fast")
    weight_decay: float = Field(0.01, ge=0, le=10, description="how much each step draws weights to 0, against learning rows by heart")
    batch_rows: int | None = Field(None, ge=1, description="rows that a step learns from; default: 32")
    epochs: int = Field(3, ge=1, le=10_000, description="passes over the rows at most")
    patience: int = Field(1, ge=1, description="passes without gain on the rows held back, after which it ends")
    held_back: float = Field(0.1, gt=0, le=0.5, description="share of the training rows that say when to end: the last ones by time")
    time_limit_s: float | None = Field(3600, gt=0, description="seconds of passes after which it ends, and says so; null: no limit")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    processes: int = Field(1, ge=1, le=64, description="that learn together, each from its part of a step's rows; they share train.threads")
