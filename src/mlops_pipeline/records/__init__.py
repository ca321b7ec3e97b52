"""The record of predictions: what was asked, what was answered, by which version, and how it is written and read back."""
