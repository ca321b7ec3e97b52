"""How a fitted model lies on disk, a file a format."""
