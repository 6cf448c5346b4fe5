"""Stacked dense U-Nets and hourglasses with dual transformers for 2D and 3D face alignment (Guo et al., BMVC 2018)."""
