"""Estimators, features, metrics, the promotion gate, conversion to ONNX, the model card."""
