"""Plots, the HTML report and the slides."""
