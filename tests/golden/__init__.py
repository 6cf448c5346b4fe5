"""Official answers as plain numbers: with them a clone proves that each method equals its official implementation."""
