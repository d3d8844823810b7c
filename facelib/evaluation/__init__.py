"""How good predictions are, for whom, and why not."""
