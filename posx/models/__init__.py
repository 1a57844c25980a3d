"""The decoder, attention, loss and checkpoints, and the code that builds a model from a config."""
