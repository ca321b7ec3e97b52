"""What ``train.params`` may hold for the networks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlops_pipeline.config.tree import Frozen


class Network(Frozen):
    """For a network of a few layers."""

    width: int = Field(128, ge=1, le=4096, description="of each hidden layer")
    depth: int = Field(2, ge=1, le=12, description="how many hidden layers")
    embedding: int = Field(4, ge=1, le=256, description="numbers that each column is turned into")
    bins: int = Field(8, ge=2, le=512, description="pieces, by quantiles, of what a number is turned into")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of a layer's numbers that a step leaves out")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="how far a step of AdamW goes")
    weight_decay: float = Field(3e-4, ge=0, le=10, description="how much each step draws weights to 0, against learning rows by heart")
    batch_rows: int | None = Field(None, ge=1, description="rows that a step learns from; default: 32 to 1024, by how many there are")
    epochs: int = Field(50, ge=1, le=10_000, description="passes over the rows at most")
    patience: int = Field(4, ge=1, description="passes without gain on the rows held back, after which it ends")
    held_back: float = Field(0.1, gt=0, le=0.5, description="share of the training rows that say when to end: the last ones by time")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    processes: int = Field(1, ge=1, le=64, description="that learn together, each from its part of a step's rows; they share train.threads")


class Tabm(Network):
    """For TabM, many networks in one."""

    width: int = Field(64, ge=1, le=4096, description="of each hidden layer")
    members: int = Field(16, ge=2, le=512, description="networks in one")
