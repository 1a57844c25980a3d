"""Schemes and extensions beside papers and reference code: `posx verify`."""
