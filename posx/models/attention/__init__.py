"""Causal attention: what a pass carries, which backend runs, and one file per backend."""
