"""Segment-anything models of small random weights, in the layout of the released ones."""

import torch

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
DECODER = SMALL | {"iou_head_hidden_dim": 16, "iou_head_depth": 2, "attention_downsample_rate": 2}
PROMPTS = {"hidden_size": 16, "image_size": 64, "mask_input_channels": 4}


def sam(folder, seed=0):
    from transformers import SamConfig, SamImageProcessor, SamModel

    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8}
    config = SamConfig(vision_config=vision, prompt_encoder_config=PROMPTS | {"patch_size": 8}, mask_decoder_config=DECODER)
    saved(SamModel, config, folder, seed)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    SamImageProcessor(**sizes, mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16}).save_pretrained(folder)


def sam2(folder, seed=0):
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

    stages = {
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
    }
    stages |= {"window_size_per_stage": [4, 4, 4, 2], "global_attention_blocks": [3], "hidden_size": 8, "num_attention_heads": 1}
    backbone = stages | {
        "model_type": "sam2_hiera_det_model",
        "image_size": [64, 64],
        "window_positional_embedding_background_size": [2, 2],
    }
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    config = Sam2Config(vision_config=vision, prompt_encoder_config=PROMPTS | {"patch_size": 16}, mask_decoder_config=DECODER)
    saved(Sam2Model, config, folder, seed)
    size = {"height": 64, "width": 64}
    Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16}).save_pretrained(folder)


def saved(kind, config, folder, seed):
    """Random weights whose masks are clear-cut and well thought of, so that the generator's filters keep some."""
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
        head = model.mask_decoder.iou_prediction_head.proj_out
        head.weight.zero_()
        head.bias.fill_(10)
        for perceptron in model.mask_decoder.output_hypernetworks_mlps:
            perceptron.proj_out.weight.mul_(1000)
    model.save_pretrained(folder)
