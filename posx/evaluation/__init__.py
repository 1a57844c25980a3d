"""Evaluation: from a checkpoint, extensions and windows to records. Nothing here prints results."""
