"""From cells to what a person reads: tables, plots, the HTML report, the commands behind a number."""
