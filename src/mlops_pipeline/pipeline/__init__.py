"""The pipeline: its stages, what is stale and why, one run, and its faces for other programs."""
