"""Settings: their types and defaults, how they are composed, the catalog of what there is. Imports no torch."""
