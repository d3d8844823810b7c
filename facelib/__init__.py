"""A reference analysis of facial demographics."""
