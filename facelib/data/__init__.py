"""Readers, untrusted files, pixels and splits."""
