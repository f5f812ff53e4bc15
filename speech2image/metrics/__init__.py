"""Metrics of pictures, retrieval, colours and words: one file a measure."""
