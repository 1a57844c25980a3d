"""Run directories, hashes that identify runs, and provenance. Imports no torch."""
