"""Corpora, the one sample type, shards, and the arrays that trainings read."""
