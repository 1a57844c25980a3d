"""The decoder, its attention, its loss and its checkpoints, and how a config becomes a model."""
