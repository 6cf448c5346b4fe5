"""Scripts that make the figures of the methods' pages, and one-off measurements."""
