"""Spoken captions: engines and readers as voices, what they say, and the making of speech shards."""
