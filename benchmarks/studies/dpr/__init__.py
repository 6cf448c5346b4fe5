"""Figures of docs/studies/dpr.md."""
