"""One file for each command, or for a few that belong together. Each imports what is heavy inside the command."""
