"""Drawn faces with known truth, and the faults planted among them."""
