"""One file a genuine annotation format."""
