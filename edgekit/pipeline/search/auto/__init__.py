"""``edgekit quantize --scheme auto``: a small study by rules, of which the fastest file is published.

The order of it (run), what makes no sense (checks), which file is chosen (choice), the table of what was tried (rows),
the published file and its card (publish)."""
