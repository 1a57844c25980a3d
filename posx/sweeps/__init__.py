"""Sweeps: plan many runs from one file, run them on an engine, and show their progress."""
