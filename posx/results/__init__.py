"""Records, sums by document, intervals and cells, from which tables are made. Imports no torch."""
