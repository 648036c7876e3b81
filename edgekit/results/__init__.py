"""What the verbs find, as values: one module a verb. The JSON, its schema and the reports are made from the fields."""
