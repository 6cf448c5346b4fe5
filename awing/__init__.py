"""Adaptive Wing loss for face alignment (Wang, Bo, Li, ICCV 2019)."""
