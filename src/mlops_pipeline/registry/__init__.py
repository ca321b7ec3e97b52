"""Versions, their files and the champion; runs and what they record."""
