"""Corpora: each module lists one published data set, or makes one up."""
