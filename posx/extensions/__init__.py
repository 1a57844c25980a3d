"""Test-time extensions: what is done to a trained model at a longer length. ``configs/extension`` names them."""
