"""Image processing: arrays in, arrays out, no disk, no network, randomness by an explicit generator."""
