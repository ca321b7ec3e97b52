"""What ``train.encoder_params`` may hold for texts."""

from __future__ import annotations

from pydantic import Field, model_validator

from mlops_pipeline.config.tree import Frozen

Sizes = tuple[int, int]
"""The shortest and the longest n-gram."""


class Tfidf(Frozen):
    """How texts become weighted n-grams."""

    words: Sizes | None = Field((1, 2), description="n-grams of words, from so many to so many; null: none")
    characters: Sizes | None = Field(
        None, description="n-grams of each word's characters, from so many to so many; null: none. A private column has words alone"
    )
    min_rows: int = Field(5, ge=1, description="an n-gram that fewer training rows have is left out; 5 at least for a private column")
    most: int = Field(50_000, ge=1, le=1_000_000, description="n-grams of each sort at most, those of most rows")
    numbers: int | None = Field(None, ge=1, le=1024, description="each sort is drawn together to so many numbers, as trees need it")

    @model_validator(mode="after")
    def _sizes(self) -> Tfidf:
        for name, sizes in (("words", self.words), ("characters", self.characters)):
            if sizes is not None and not 1 <= sizes[0] <= sizes[1] <= 8:
                raise ValueError(f"{name} = {list(sizes)}: give two lengths from 1 to 8, the shorter one first")
        if self.words is None and self.characters is None:
            raise ValueError("words and characters are both null: give the lengths of one")
        return self
