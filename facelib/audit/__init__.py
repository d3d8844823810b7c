"""Duplicates, label issues, image quality and decisions: functions of tables and arrays."""
