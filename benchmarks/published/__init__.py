"""What others published, checked and set beside ours."""
