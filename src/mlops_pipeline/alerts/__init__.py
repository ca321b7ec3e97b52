"""Alerts: what is said of a rule that is broken, and the ways on which it goes out."""
