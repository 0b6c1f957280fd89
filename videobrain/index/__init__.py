"""The meaning of frames: encoders, nearest-neighbour search, the frame index and its store."""
