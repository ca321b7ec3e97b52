"""The stages, a file each; :mod:`mlops_pipeline.pipeline` lists them in order."""
