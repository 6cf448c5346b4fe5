"""Scripts that make the READMEs' figures, and one-off measurements."""
