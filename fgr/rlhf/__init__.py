"""Fine-tuning SR networks against a reward model: policy, reward, objective, curriculum, audit, loop."""
