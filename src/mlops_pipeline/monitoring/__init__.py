"""Monitoring: what rows seen now are beside the rows a model was made from."""
