"""Releases: a challenger on its way to all traffic, or back."""
