"""Tables, the page and W&B from records."""
