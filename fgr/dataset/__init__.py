"""A dataset directory: tables on the disk, card, manifest, screening, verification, loading."""
