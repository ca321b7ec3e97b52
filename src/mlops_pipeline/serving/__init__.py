"""The model server: a registered version behind HTTP, without any training library."""
