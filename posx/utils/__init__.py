"""What any package may use. Imports no torch."""
