"""Property tests ask the same questions on every run, on a machine of any speed."""

from hypothesis import settings

settings.register_profile("same everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same everywhere")
