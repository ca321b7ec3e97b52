"""Our own parts with settings of their own, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.config.networks import Network, Tabm
from mlops_pipeline.config.pipeline import Members
from mlops_pipeline.config.sentences import FineTuned, Sentences
from mlops_pipeline.config.text import Tfidf
from mlops_pipeline.plugins import DISTRIBUTION, Encoder, Estimator, Extra, Module

_estimators = Module("mlops_pipeline.modelling.estimators")
_networks = Module("mlops_pipeline.modelling.network_estimators")
_fine_tuning = Module("mlops_pipeline.modelling.fine_tuning")
_pytorch = Extra("torch", "PyTorch", "torch")
_tokens = Extra("tokenizers", "tokenizers", "text")

PARTS = (
    Estimator(
        "blend",
        _estimators.blend,
        "The mean of several others, each with its own encoder",
        settings=Members,
        encoder="whole",
        requirements=("lightgbm", DISTRIBUTION),
    ),
    Encoder("whole", _estimators.whole, "Columns as they are, for an estimator that encodes them itself, as a blend's members do"),
    Encoder(
        "sentences",
        _estimators.sentences,
        "Texts as embeddings of a pretrained encoder in a folder, which stays as it is; for any estimator",
        settings=Sentences,
        requirements=("tokenizers", "onnxruntime", DISTRIBUTION),
        extra=_tokens,
        reads="mlops_pipeline.modelling.pretrained:files_read",
    ),
    Encoder("tfidf", _estimators.tfidf, "Texts as weighted n-grams, with settings; everything else as one_hot", settings=Tfidf),
    Estimator(
        "torch_mlp",
        _networks.network,
        "A network of a few layers, by PyTorch",
        settings=Network,
        encoder="native",
        search=_networks.search_network,
        requirements=(DISTRIBUTION,),
        extra=_pytorch,
    ),
    Estimator(
        "torch_tabm",
        _networks.network,
        "TabM: many networks that share most weights, by PyTorch",
        settings=Tabm,
        encoder="native",
        search=_networks.search_network,
        requirements=(DISTRIBUTION,),
        extra=_pytorch,
    ),
    Estimator(
        "transformer",
        _fine_tuning.transformer,
        "Fine-tuning: a pretrained encoder of text learns with a linear head, by PyTorch",
        settings=FineTuned,
        encoder="sentences",
        search=_fine_tuning.search_transformer,
        requirements=(DISTRIBUTION,),
        extra=_pytorch,
    ),
)
