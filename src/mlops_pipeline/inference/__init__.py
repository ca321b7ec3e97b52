"""From rows to predictions: the one way, taken by batch prediction, the server, evaluation and monitoring."""
