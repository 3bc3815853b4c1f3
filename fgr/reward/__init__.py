"""The reward model FinPercep-RM: network, losses, staged training, scoring, evaluation, export."""
