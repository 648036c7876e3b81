"""Loads other than one call after the other: arrivals, a queue before the model, and hours of work."""
