"""Positional schemes, which are part of the trained model. One file per scheme; ``configs/scheme`` lists them."""
