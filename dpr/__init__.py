"""Robust face alignment by progressive reinitialisation (Shao et al., TPAMI 2021)."""
