"""Many runs from one file: planned, run on an engine, watched."""
