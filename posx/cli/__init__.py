"""The command line: one file per command; each imports what is heavy inside the command."""
