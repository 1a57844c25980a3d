"""Loggers of training metrics, one per module."""
