"""Figures of musica's README."""
