"""Figures of one style: functions of tables that return a matplotlib figure."""
