"""Side-by-side measurements of speed and memory; run as modules from the project's root."""
