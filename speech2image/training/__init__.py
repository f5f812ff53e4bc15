"""Trainings: `core` is what they share, `recipes` holds one a file."""
