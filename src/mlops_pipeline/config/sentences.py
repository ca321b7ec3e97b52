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
