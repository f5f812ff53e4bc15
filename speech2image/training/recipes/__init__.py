"""Recipes: one training a file, each with its settings and presets beneath them."""
