"""Time and pixels: frame tables, decoding, JPEG encoding, the frame cache."""
