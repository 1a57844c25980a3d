"""Causal attention: the state of a forward pass, the choice of a backend, and one file per backend."""
