"""Records, sums by document, intervals, cells: all that tables are made of. Imports no torch."""
