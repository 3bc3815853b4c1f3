"""Fine-tuning SR networks against a reward model: algorithms, policies, curriculum, audit."""
