"""Tasks, their data sets, and the questions in them."""
