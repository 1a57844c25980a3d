"""Run directories, the names of runs, and where numbers come from. Imports no torch."""
