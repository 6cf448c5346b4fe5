"""What official implementations do and this project does not, kept to compare the parts that both have."""
