"""Figures of docs/studies/musica.md."""
