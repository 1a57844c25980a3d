"""Tables, plots and the HTML report, made from cells; and the commands that reproduce a record."""
