"""Checks of schemes and extensions against papers and reference code: `posx verify`."""
