"""The board to read: a page that needs nothing else, and the same numbers as CSV, Parquet, Markdown and LaTeX."""
