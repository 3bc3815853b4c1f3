"""What training runs share: run directory, accelerator, checkpoints."""
