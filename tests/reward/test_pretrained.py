import pytest

from fgr.errors import UserError
from fgr.reward import FinPercepRM, load_reward_model


def test_a_run_means_its_last_stage(tmp_path):
    for stage in (0, 1):
        FinPercepRM(stage=stage).save_pretrained(tmp_path / f"stage-{stage}")
    assert load_reward_model(tmp_path).stage == 1


def test_bad_folders_are_sentences(tmp_path):
    with pytest.raises(UserError, match=r"The reward model .* does not exist"):
        load_reward_model(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"neither config\.json nor a finished stage"):
        load_reward_model(tmp_path)
    FinPercepRM().save_pretrained(tmp_path / "rm")
    weights = tmp_path / "rm" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged or of another version"):
        load_reward_model(tmp_path / "rm")
    (tmp_path / "rm" / "config.json").write_text('{"encoder": "tiny", "gate": "concat", "stage": 1, "colour": 3}')
    with pytest.raises(UserError, match="damaged or of another version"):
        load_reward_model(tmp_path / "rm")
    (tmp_path / "rm" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not that of a FinPercep-RM"):
        load_reward_model(tmp_path / "rm")
