"""Anyone's predictions under any protocol."""
