"""Where training metrics go: one logger a file."""
