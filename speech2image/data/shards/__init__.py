"""Shards and arrays: a prepared data set on disk, written, resumed, checked and read."""
