"""Figures of docs/studies/spiga.md."""
