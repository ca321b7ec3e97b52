"""Our estimators with settings of their own, declared as anybody declares one; each function is imported when it is used."""

from mlops_pipeline.config.networks import Network, Tabm
from mlops_pipeline.plugins import DISTRIBUTION, Estimator, Extra, Module

_networks = Module("mlops_pipeline.modelling.network_estimators")
_pytorch = Extra("torch", "PyTorch", "torch")

PARTS = (
    Estimator(
        "torch_mlp",
        _networks.torch_mlp,
        "A network of a few layers, by PyTorch",
        settings=Network,
        encoder="native",
        search=_networks.search_network,
        requirements=(DISTRIBUTION,),
        extra=_pytorch,
    ),
    Estimator(
        "torch_tabm",
        _networks.torch_tabm,
        "TabM: many networks that share most weights, by PyTorch",
        settings=Tabm,
        encoder="native",
        search=_networks.search_network,
        requirements=(DISTRIBUTION,),
        extra=_pytorch,
    ),
)
