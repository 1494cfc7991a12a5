"""What knows processors and memory, and no mathematics."""
