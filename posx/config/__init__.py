"""Settings: types and defaults, composition, and the catalog of options. Imports no torch."""
