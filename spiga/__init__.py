"""Shape Preserving Facial Landmarks with Graph Attention Networks (SPIGA): see README.md."""
