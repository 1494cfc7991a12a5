"""The families, a file each: config, layers, body, tasks."""
