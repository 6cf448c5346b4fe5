"""Comparison of the registered methods on equal terms."""
