"""From a checkpoint, extensions and windows to records. Returns data; prints nothing."""
