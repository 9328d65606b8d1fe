"""`VQModel` and `AutoencoderKL` of diffusers, folders of `config.json` and the weights."""

from typing import Any, Literal

from vq_jax.errors import UserError
from vq_jax.weights.vqgan import Names, Sizes, VQGANProject

FILE = 'diffusion_pytorch_model.safetensors'
_SOURCE = 'https://github.com/huggingface/diffusers'
_LICENCE = 'Apache-2.0'
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
    attention=('group_norm', 'to_q', 'to_k', 'to_v', 'to_out.0'),
    linear=True,
    # Of the published ones of Stable Diffusion; diffusers knows these too.
    former={'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'},
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


def _vq(sizes: Sizes) -> dict[str, Any]:
    of_codes = {'num_vq_embeddings': sizes.num_codes, 'vq_embed_dim': sizes.latent}
    return {
        '_class_name': 'VQModel',
        **_settings(sizes),
        'latent_channels': sizes.features,
        **of_codes,
    }


def _kl(sizes: Sizes) -> dict[str, Any]:
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


DIFFUSERS = (
    _project('diffusers-vq', "diffusers' VQModel", 'vq', _vq),
    _project('diffusers-kl', "diffusers' AutoencoderKL", 'kl', _kl),
)
