"""From a table of data to a served model and back round, with one definition of the pipeline."""
