"""From photographs to a dataset: plan, degrade, restore, swap, label; shard by shard, resumable."""
