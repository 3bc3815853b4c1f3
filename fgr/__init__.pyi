from fgr.api import evaluate_reward_model as evaluate_reward_model
from fgr.api import evaluate_systems as evaluate_systems
from fgr.api import generate_dataset as generate_dataset
from fgr.api import score as score
from fgr.api import train_reward_model as train_reward_model
from fgr.api import tune as tune
from fgr.dataset.load import load_samples as load_samples
from fgr.errors import UserError as UserError
from fgr.reward.pretrained import load_reward_model as load_reward_model

__version__: str
API: dict[str, str]
