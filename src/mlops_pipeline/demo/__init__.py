"""Stories that are told by running them."""
