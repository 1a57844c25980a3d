"""Helpers for all packages. Imports no torch."""
