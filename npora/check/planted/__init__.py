"""Errors planted on purpose, to see that they are caught, and named."""
