"""Analyses of schemes that need no training: `posx show`, `posx explain`, `posx schemes`."""
