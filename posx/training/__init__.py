"""Training: from a config and a corpus to a checkpoint."""
