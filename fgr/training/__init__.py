"""What training runs share: run directory, accelerator, optimisation, checkpoints."""
