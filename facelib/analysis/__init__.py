"""Evaluation, bias, error clusters, attribution and external photographs."""
