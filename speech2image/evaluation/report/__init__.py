"""Reports of an evaluation: sections of tables and charts, written as one HTML file and as Markdown."""
