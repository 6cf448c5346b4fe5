"""The shared core: data, geometry, metrics, training frame. Knows no method."""
