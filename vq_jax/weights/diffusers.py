"""Models of diffusers, each of them a folder of `config.json` and the weights."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vq_jax.errors import UserError
from vq_jax.json_files import read_json
from vq_jax.weights.dit import DIT, DiTNames, DiTSizes
from vq_jax.weights.project import Published
from vq_jax.weights.unet import UNetNames, UNetProject, UNetSizes
from vq_jax.weights.vqgan import Names, Sizes, VQGANProject

FILE = 'diffusion_pytorch_model.safetensors'
_SOURCE = 'https://github.com/huggingface/diffusers'
_LICENCE = 'Apache-2.0'
# Of the published ones of Stable Diffusion and of DDPM; diffusers knows these too.
_FORMER = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}
_ATTENTION = ('group_norm', 'to_q', 'to_k', 'to_v', 'to_out.0')
_NAMES = Names(
    down='encoder.down_blocks.{order}.resnets.{block}',
    down_attention='encoder.down_blocks.{order}.attentions.{block}',
    downsample='encoder.down_blocks.{order}.downsamplers.0.conv',
    up='decoder.up_blocks.{order}.resnets.{block}',
    up_attention='decoder.up_blocks.{order}.attentions.{block}',
    upsample='decoder.up_blocks.{order}.upsamplers.0.conv',
    middle=('mid_block.resnets.0', 'mid_block.attentions.0', 'mid_block.resnets.1'),
    norm_out='conv_norm_out',
    shortcut='conv_shortcut',
    attention=_ATTENTION,
    linear=True,
    former=_FORMER,
)


def _settings(sizes: Sizes) -> dict[str, Any]:
    """What both kinds say of their encoder and decoder."""
    levels = range(len(sizes.multipliers))
    return {
        'in_channels': sizes.image_channels,
        'out_channels': sizes.image_channels,
        'down_block_types': [
            'AttnDownEncoderBlock2D' if level in sizes.attention else 'DownEncoderBlock2D' for level in levels
        ],
        'up_block_types': [
            'AttnUpDecoderBlock2D' if level in sizes.attention else 'UpDecoderBlock2D'
            for level in reversed(levels)
        ],
        'block_out_channels': [sizes.channels * multiplier for multiplier in sizes.multipliers],
        'layers_per_block': sizes.residual_blocks,
        'act_fn': 'silu',
        'norm_num_groups': 32,
    }


def _vq(sizes: Sizes, config: Mapping[str, Any]) -> dict[str, Any]:
    of_codes = {'num_vq_embeddings': sizes.num_codes, 'vq_embed_dim': sizes.latent}
    return {
        '_class_name': 'VQModel',
        **_settings(sizes),
        'latent_channels': sizes.features,
        **of_codes,
    }


def _kl(sizes: Sizes, config: Mapping[str, Any]) -> dict[str, Any]:
    if sizes.features != sizes.latent:
        raise UserError(
            f"diffusers' AutoencoderKL has as many features as latent dimensions, and these are "
            f'{sizes.features} and {sizes.latent}.'
        )
    return {'_class_name': 'AutoencoderKL', **_settings(sizes), 'latent_channels': sizes.latent}


def _project(name: str, title: str, bottleneck: Literal['vq', 'kl'], settings: Any) -> VQGANProject:
    return VQGANProject(
        name=name,
        title=title,
        source=_SOURCE,
        licence=_LICENCE,
        roots=('',),
        settings=settings,
        names=_NAMES,
        bottleneck=bottleneck,
    )


_UNET_NAMES = UNetNames(
    conv_in='conv_in',
    time=('time_embedding.linear_1', 'time_embedding.linear_2'),
    down='down_blocks.{level}.resnets.{block}',
    down_attention='down_blocks.{level}.attentions.{block}',
    downsample='down_blocks.{level}.downsamplers.0.conv',
    middle=('mid_block.resnets.0', 'mid_block.attentions.0', 'mid_block.resnets.1'),
    up='up_blocks.{order}.resnets.{block}',
    up_attention='up_blocks.{order}.attentions.{block}',
    upsample='up_blocks.{order}.upsamplers.0.conv',
    block=('norm1', 'conv1', 'time_emb_proj', 'norm2', 'conv2', 'conv_shortcut'),
    attention=_ATTENTION,
    out=('conv_norm_out', 'conv_out'),
)


@dataclasses.dataclass(frozen=True)
class UNet2DConfig:
    """What `config.json` says of a `UNet2DModel` that arrays do not; left out, it is as it is there.

    Attributes:
        sample_size: of images, on both axes; read where it is one.
        freq_shift: by how much fewer than all of the wavelengths of the time the exponent is divided.
        flip_sin_to_cos: cosines come before sines.
        downsample_padding: zeros before each axis, where the resolution is halved.
        norm_eps: added to variances.
        attention_head_dim: channels of a head; None for one head.
        act_fn: see `_HAS`, as of all that follow.
    """

    sample_size: int | tuple[int, int] | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    downsample_padding: int = 1
    norm_eps: float = 1e-5
    attention_head_dim: int | None = 8
    act_fn: str = 'silu'
    time_embedding_type: str = 'positional'
    center_input_sample: bool = False
    mid_block_scale_factor: float = 1
    norm_num_groups: int | None = 32
    attn_norm_num_groups: int | None = None
    downsample_type: str = 'conv'
    upsample_type: str = 'conv'


_HAS = {  # what our U-Net has of each key
    'act_fn': ('silu', 'swish'),
    'time_embedding_type': ('positional',),
    'center_input_sample': (False,),
    'mid_block_scale_factor': (1,),
    'norm_num_groups': (32,),
    'attn_norm_num_groups': (None, 32),
    'downsample_type': ('conv',),
    'upsample_type': ('conv',),
    'downsample_padding': (0, 1),
}


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """What `config.json` says of a `DiTTransformer2DModel`, likewise.

    Attributes:
        num_attention_heads: of all blocks.
        sample_size: of latents, on both axes.
        activation_fn: see `_HAS_OF_DIT`, as of all that follow.
    """

    num_attention_heads: int = 16
    sample_size: int = 32
    activation_fn: str = 'gelu-approximate'
    norm_type: str = 'ada_norm_zero'
    norm_elementwise_affine: bool = False
    attention_bias: bool = True


_HAS_OF_DIT = {
    'activation_fn': ('gelu-approximate',),
    'norm_type': ('ada_norm_zero',),
    'norm_elementwise_affine': (False,),
    'attention_bias': (True,),
}
_REDUCED = 8  # how much smaller than images latents are, in Stable Diffusion's autoencoders


def _check_has(path: Path, found: Any, has: Mapping[str, tuple[Any, ...]], network: str) -> None:
    """Raises `UserError` if a network of ours has nothing that a `config.json` says."""
    for key, values in has.items():
        if (value := getattr(found, key)) not in values:
            raise UserError(
                f'{path} says that {key} is {value}, and the {network} of vq_jax has only '
                f'{" or ".join(map(str, values))}; it cannot be this model.'
            )


def _said_of_dit(path: Path) -> dict[str, Any]:
    found = read_json(path, DiTConfig, advice='get the file anew')
    _check_has(path, found, _HAS_OF_DIT, 'DiT')
    return {'dit.heads': found.num_attention_heads, 'data.image_size': _REDUCED * found.sample_size}


def _dit(sizes: DiTSizes, config: Mapping[str, Any]) -> dict[str, Any]:
    if sizes.mlp_width != 4 * sizes.width:
        raise UserError(
            f"diffusers' DiTTransformer2DModel has connected layers of 4 widths, and config.dit.mlp_ratio is "
            f'{config["dit.mlp_ratio"]}.'
        )
    return {
        '_class_name': 'DiTTransformer2DModel',
        'num_attention_heads': config['dit.heads'],
        'attention_head_dim': sizes.width // config['dit.heads'],
        'in_channels': sizes.latent,
        'out_channels': sizes.outputs,
        'num_layers': sizes.depth,
        'sample_size': math.isqrt(sizes.positions) * sizes.patch,
        'patch_size': sizes.patch,
        'num_embeds_ada_norm': sizes.classes,
        'norm_eps': 1e-6,
        'dropout': config['dit.dropout'],
        **{key: values[0] for key, values in _HAS_OF_DIT.items()},
    }


def _said_of_unet(path: Path) -> dict[str, Any]:
    found = read_json(path, UNet2DConfig, advice='get the file anew')
    _check_has(path, found, _HAS, 'U-Net')
    if (found.freq_shift, found.flip_sin_to_cos) not in ((0, True), (1, False)):
        raise UserError(
            f'{path} says that freq_shift is {found.freq_shift:g} and flip_sin_to_cos '
            f'{found.flip_sin_to_cos}, and of the U-Net of vq_jax they are 0 and True, or 1 and False; it '
            'cannot be this model.'
        )
    heads = found.attention_head_dim
    size = found.sample_size if isinstance(found.sample_size, tuple) else (found.sample_size,)
    return {
        'unet.heads': None if heads else 1,
        **({'unet.head_channels': heads} if heads else {}),
        'unet.sinusoid_endpoint': found.freq_shift == 1,
        'unet.downsample_padding': 'both' if found.downsample_padding else 'end',
        'unet.norm_epsilon': found.norm_eps,
        **({'data.image_size': size[0]} if size[0] and len({*size}) == 1 else {}),
    }


def _unet(sizes: UNetSizes, config: Mapping[str, Any]) -> dict[str, Any]:
    levels, heads = range(len(sizes.multipliers)), config['unet.heads']
    if heads not in (None, 1):
        raise UserError(
            f"diffusers' UNet2DModel has one head of attention, or heads of head_channels, and "
            f'config.unet.heads is {heads}.'
        )
    attended = {level: 'Attn' if level in sizes.attention else '' for level in levels}
    return {
        '_class_name': 'UNet2DModel',
        'sample_size': config['data.image_size'],
        'in_channels': sizes.inputs,
        'out_channels': sizes.outputs,
        'center_input_sample': False,
        'time_embedding_type': 'positional',
        'freq_shift': int(config['unet.sinusoid_endpoint']),
        'flip_sin_to_cos': not config['unet.sinusoid_endpoint'],
        'down_block_types': [f'{attended[level]}DownBlock2D' for level in levels],
        'up_block_types': [f'{attended[level]}UpBlock2D' for level in reversed(levels)],
        'block_out_channels': [sizes.channels * multiplier for multiplier in sizes.multipliers],
        'layers_per_block': sizes.residual_blocks,
        'mid_block_scale_factor': 1,
        'downsample_padding': int(config['unet.downsample_padding'] == 'both'),
        'dropout': config['unet.dropout'],
        'act_fn': 'silu',
        'attention_head_dim': None if heads else config['unet.head_channels'],
        'norm_num_groups': 32,
        'attn_norm_num_groups': 32,
        'norm_eps': config['unet.norm_epsilon'],
        'resnet_time_scale_shift': 'default' if sizes.time_conditioning == 'add' else 'scale_shift',
    }


_DDPM = {
    'unet.heads': 1,
    'unet.sinusoid_endpoint': True,
    'unet.downsample_padding': 'end',
    'unet.norm_epsilon': 1e-6,
}
UNET = UNetProject(
    name='diffusers-unet',
    title="diffusers' UNet2DModel",
    source=_SOURCE,
    licence=_LICENCE,
    roots=('',),
    settings=_unet,
    said=_said_of_unet,
    names=_UNET_NAMES,
    network={},
    former=_FORMER,
    # What the file of the scheduler says, which is another one: that of DDPM.
    defaults={
        'model.schedule': 'linear',
        'model.timesteps': 1000,
        'model.prediction': 'noise',
        'sampling.sampler': 'ddpm',
        'sampling.steps': 1000,
        'sampling.grid': 'uniform',
        'optimizer.learning_rate': 2e-4,
        'optimizer.ema_decay': 0.9999,
        'batch_size': 128,
    },
    published=(
        Published(
            'ddpm-cifar10-32',
            {'channels': 128, 'multipliers': (1, 2, 2, 2), 'residual_blocks': 2, 'attention': (1,)},
            {
                **_DDPM,
                'data.name': 'cifar10',
                'data.image_size': 32,
                'data.flip': True,
                'unet.dropout': 0.1,
                'sampling.variance': 'forward',
            },
            {'FID on CIFAR-10, of the paper': '3.17'},
        ),
        Published(
            'DDPM at 256 pixels',
            {'channels': 128, 'multipliers': (1, 1, 2, 2, 4, 4), 'residual_blocks': 2, 'attention': (4,)},
            {**_DDPM, 'data.image_size': 256},
            {},
        ),
    ),
)

_BLOCK = 'transformer_blocks.{block}'
_OF_BLOCK = f'{_BLOCK}.norm1.emb'
_DIFFUSERS_DIT = dataclasses.replace(
    DIT,
    name='diffusers-dit',
    title="diffusers' DiTTransformer2DModel",
    source=_SOURCE,
    licence=_LICENCE,
    roots=('',),
    unread=('pos_embed.pos_embed',),
    settings=_dit,
    said=_said_of_dit,
    names=DiTNames(
        patches='pos_embed.proj',
        time=(f'{_OF_BLOCK}.timestep_embedder.linear_1', f'{_OF_BLOCK}.timestep_embedder.linear_2'),
        classes=f'{_OF_BLOCK}.class_embedder.embedding_table',
        changes=f'{_BLOCK}.norm1.linear',
        qkv=tuple(f'{_BLOCK}.attn1.to_{name}' for name in 'qkv'),
        attended=f'{_BLOCK}.attn1.to_out.0',
        widen=f'{_BLOCK}.ff.net.0.proj',
        narrow=f'{_BLOCK}.ff.net.2',
        last=('proj_out_1', 'proj_out_2'),
        positions='',
    ),
)

DIFFUSERS = (
    UNET,
    _DIFFUSERS_DIT,
    _project('diffusers-vq', "diffusers' VQModel", 'vq', _vq),
    _project('diffusers-kl', "diffusers' AutoencoderKL", 'kl', _kl),
)
