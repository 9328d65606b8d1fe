"""Made `published_unets.json`: what U-Nets of other projects, and their samplers, give with random weights.

By `python -m tests.weights.make_published_unets`, with PyTorch 2.13.0 on a CPU, diffusers 0.42.1, einops, and
on the path latent-diffusion (commit a506df5); the weights are those of `models.py`.
"""

import dataclasses
import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from diffusers.schedulers import scheduling_ddpm

from tests.weights.models import (
    HEADS,
    LABELS,
    OF_CLASSES,
    OF_LATENTS,
    OF_PIXELS,
    SAMPLED,
    STEPS,
    latents,
    pixels,
    random_weights,
    unet_weights,
)

# What is imported to ask whether sizes are of its kind.
sys.modules['omegaconf'] = types.ModuleType('omegaconf')
sys.modules['omegaconf.listconfig'] = types.SimpleNamespace(ListConfig=None)

from ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402


def flat(x):
    x = np.asarray(x.permute(0, 2, 3, 1))[:, ::2, ::3]
    return [float(f'{value:.6g}') for value in x.reshape(-1)]


def tensor(x):
    return torch.tensor(x).movedim(-1, -3)


def names(model):
    """Of arrays, and their shapes, as a number, and how many numbers they hold."""
    shapes = {name: tuple(array.shape) for name, array in model.state_dict().items()}
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    count = sum(array.numel() for array in model.state_dict().values())
    return [count, zlib.crc32('\n'.join(lines).encode())]


def of_pixels(kind):
    sizes, settings = OF_PIXELS[kind]
    levels = range(len(sizes.multipliers))
    at = ['Attn' if level in sizes.attention else '' for level in levels]
    model = UNet2DModel(
        in_channels=sizes.inputs,
        out_channels=sizes.outputs,
        block_out_channels=[sizes.channels * n for n in sizes.multipliers],
        down_block_types=[f'{a}DownBlock2D' for a in at],
        up_block_types=[f'{a}UpBlock2D' for a in reversed(at)],
        layers_per_block=sizes.residual_blocks,
        **settings,
    )
    model.load_state_dict({name: torch.tensor(array) for name, array in unet_weights(kind).items()})
    return model.eval()


def of_latents(sizes, heads):
    """As the file of all has it; the embeddings of classes are those of its `ClassEmbedder`."""
    model = torch.nn.Module()
    model.model, model.cond_stage_model = torch.nn.Module(), torch.nn.Module()
    model.cond_stage_model.embedding = torch.nn.Embedding(sizes.classes + 1, sizes.token)
    model.model.diffusion_model = UNetModel(
        image_size=None,
        in_channels=sizes.inputs,
        model_channels=sizes.channels,
        out_channels=sizes.outputs,
        num_res_blocks=sizes.residual_blocks,
        attention_resolutions=[2**level for level in sizes.attention],
        channel_mult=sizes.multipliers,
        num_heads=heads,
        use_spatial_transformer=True,
        transformer_depth=sizes.depth,
        context_dim=sizes.token,
    )
    return model


def guided(model, guidance):
    """The noise that is predicted, of the labels and of none."""
    labels = torch.tensor([LABELS, (OF_CLASSES.classes,) * 2])
    tokens = model.cond_stage_model.embedding(labels[..., None])

    def predicted(x, t):
        given, none = (model.model.diffusion_model(x, t.expand(2), context) for context in tokens)
        return types.SimpleNamespace(sample=none + guidance * (given - none))

    return predicted


def of_dit():
    """With the wavelengths that DiT's code has, and its epsilon."""
    s = OF_LATENTS['dit']
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=s.width // HEADS,
        in_channels=s.latent,
        out_channels=s.outputs,
        num_layers=s.depth,
        sample_size=8,
        num_embeds_ada_norm=s.classes,
        norm_eps=1e-6,
    )
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    weights = random_weights('diffusers-dit', s)
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return model.eval()


def published(*multipliers, attention):
    levels = range(len(multipliers))
    at = ['Attn' if level == attention else '' for level in levels]
    with torch.device('meta'):
        return UNet2DModel(
            block_out_channels=[128 * n for n in multipliers],
            down_block_types=[f'{a}DownBlock2D' for a in at],
            up_block_types=[f'{a}UpBlock2D' for a in reversed(at)],
            attention_head_dim=None,
        )


def sampled(model, scheduler, noise, first=0, **options):
    """From noise, in the steps of a scheduler from one on."""
    x, *rest = noise
    draws = iter(rest)
    scheduling_ddpm.randn_tensor = lambda *_, **__: next(draws)
    for t in scheduler.timesteps[first:]:
        x = scheduler.step(model(x, t).sample, t, x, **options).prev_sample
    return flat(x)


made = {
    'ddpm-cifar10-32': names(published(1, 2, 2, 2, attention=1)),
    'DDPM at 256 pixels': names(published(1, 1, 2, 2, 4, 4, attention=4)),
}
with torch.device('meta'):
    made['DiT-XL'] = names(DiTTransformer2DModel(out_channels=8))
    cin256 = dataclasses.replace(
        OF_CLASSES,
        inputs=3,
        outputs=3,
        channels=192,
        multipliers=(1, 2, 3, 5),
        residual_blocks=2,
        attention=(1, 2, 3),
        token=512,
        classes=1000,
    )
    made['cin256-v2'] = names(of_latents(cin256, heads=1))
with torch.no_grad():
    noise = tensor(pixels())
    for kind in OF_PIXELS:
        made[kind] = {'outputs': flat(of_pixels(kind)(noise[0], torch.tensor(STEPS)).sample)}
    model = of_pixels('added')
    ddpm, ddim = DDPMScheduler(variance_type='fixed_large'), DDIMScheduler(timestep_spacing='trailing')
    ddpm.set_timesteps(timesteps=[step - 1 for step in SAMPLED])
    ddim.set_timesteps(4)
    made['added']['ddpm'] = sampled(model, ddpm, noise)
    made['added']['ddim'] = sampled(model, ddim, noise, use_clipped_model_output=True)
    model = of_latents(OF_CLASSES, HEADS).eval()
    model.load_state_dict({name: torch.tensor(array) for name, array in unet_weights('classes').items()})
    model, x = guided(model, 2.0), tensor(latents())
    ddim = DDIMScheduler(
        beta_schedule='scaled_linear',
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
        timestep_spacing='trailing',
    )
    ddim.set_timesteps(4)
    dit = of_dit()(x, torch.tensor(STEPS), torch.tensor(LABELS)).sample
    made['diffusers-dit'] = {'outputs': flat(dit)}
    made['classes'] = {
        'outputs': flat(model(x, torch.tensor(STEPS)).sample),
        'ddim': sampled(model, ddim, [x], first=2),
    }
Path(__file__).with_name('published_unets.json').write_text(json.dumps(made) + '\n')
