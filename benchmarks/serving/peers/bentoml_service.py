"""BentoML's service, as its documentation writes one: a class, a session made once, an array in and an array out."""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Champion:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["BENCH_ONNX"], options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, rows: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        return self.session.run(["probabilities"], {"rows": rows})[0]
