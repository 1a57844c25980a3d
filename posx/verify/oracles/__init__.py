"""Oracles for `posx verify` and the tests: formulas of papers in float64, and the code of other projects."""
