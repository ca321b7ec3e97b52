"""The stages, a file each; :mod:`mlops_pipeline.pipeline.definition` lists them in order."""
