"""Compiled loops of the cascade."""
