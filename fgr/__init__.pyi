from fgr.dataset.load import load_samples as load_samples
from fgr.evaluate.comparison import evaluate_systems as evaluate_systems
from fgr.generate.run import generate as _generate
from fgr.reward.evaluate import evaluate_reward_model as evaluate_reward_model
from fgr.reward.pretrained import load_reward_model as load_reward_model
from fgr.reward.run import train_reward_model as train_reward_model
from fgr.reward.score import score as score
from fgr.rlhf.run import tune as tune

__version__: str
generate_dataset = _generate
API: dict[str, tuple[str, str]]
