"""Run directories: their layout, their identity, where they come from. Imports no torch."""
