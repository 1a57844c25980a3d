"""Positional schemes: what a model was trained with. One file each; ``configs/scheme`` names them."""
