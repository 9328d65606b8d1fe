"""Other people's weights: files read without running them, and what projects call their arrays."""

from vq_jax.weights.diffusers import DIFFUSERS
from vq_jax.weights.dit import DIT, SIT
from vq_jax.weights.downloads import INCEPTION_FILES, LPIPS_FILES, download
from vq_jax.weights.latent_diffusion import LATENT_DIFFUSION, LATENT_DIFFUSION_UNET
from vq_jax.weights.llamagen import LLAMAGEN, LLAMAGEN_GPT
from vq_jax.weights.maskgit import MASKGIT, MASKGIT_TRANSFORMER
from vq_jax.weights.msgpack_files import write_msgpack
from vq_jax.weights.project import Project
from vq_jax.weights.pytorch_files import write_pytorch
from vq_jax.weights.read import Weights, read_weights
from vq_jax.weights.safetensors_files import write_safetensors
from vq_jax.weights.sound import DAC, ENCODEC
from vq_jax.weights.taming import TAMING, TAMING_GPT, TAMING_GUMBEL
from vq_jax.weights.var import VAR

PROJECTS: dict[str, Project] = {
    project.name: project
    for project in (
        TAMING,
        LLAMAGEN,
        VAR,
        MASKGIT,
        LATENT_DIFFUSION,
        LATENT_DIFFUSION_UNET,
        *DIFFUSERS,
        TAMING_GUMBEL,
        TAMING_GPT,
        LLAMAGEN_GPT,
        MASKGIT_TRANSFORMER,
        DIT,
        SIT,
        DAC,
        ENCODEC,
    )
}

__all__ = [
    'INCEPTION_FILES',
    'LPIPS_FILES',
    'PROJECTS',
    'Project',
    'Weights',
    'download',
    'read_weights',
    'write_msgpack',
    'write_pytorch',
    'write_safetensors',
]
