"""What is done to pixels: arrays in, arrays out, no disk, no network, randomness by an explicit generator."""
