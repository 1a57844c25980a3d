"""From a config and a corpus to a checkpoint."""
