"""The risk gate: four gates of small pure rules between a candidate and a signal."""
