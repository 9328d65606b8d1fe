"""Made `published.json`: what other projects' own modules give with the weights of `models.random_weights`.

By `python -m tests.weights.make_published`, with PyTorch 2.13.0 on a CPU, diffusers 0.42.1, and
taming-transformers (commit 3ba01b2), LlamaGen (ce98ec4) and VAR (78b9539) on the path. The `VQModel` of the
first, which derives from a class of PyTorch Lightning, is made here of its parts as there, and
latent-diffusion's `AutoencoderKL` of the same parts. So is VAR's `VQVAE`, whose sizes are fixed.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers import VQModel as DiffusersVQModel
from models import basic_vae, quant
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer2
from tokenizer.tokenizer_image import vq_model as llamagen

from tests.weights.models import CODED, KL, SCALED, SCALES, images, random_weights

S = CODED


def taming(double):
    """Encoder, convolutions and decoder of taming-transformers, or with twice the channels for KL."""
    features, times = (KL.features, 2) if double else (S.features, 1)
    options = {
        'ch': S.channels,
        'out_ch': 3,
        'ch_mult': S.multipliers,
        'num_res_blocks': S.residual_blocks,
        'attn_resolutions': [8],
        'in_channels': 3,
        'resolution': 16,
        'z_channels': features,
    }
    model = torch.nn.Module()
    model.encoder, model.decoder = Encoder(**options, double_z=double), Decoder(**options)
    model.quant_conv = torch.nn.Conv2d(times * features, times * S.latent, 1)
    model.post_quant_conv = torch.nn.Conv2d(S.latent, features, 1)
    if not double:
        model.quantize = VectorQuantizer2(S.num_codes, S.latent, 0.25, sane_index_shape=True)
    return model


def of_llamagen():
    model = llamagen.VQModel(llamagen.ModelArgs(codebook_size=S.num_codes, codebook_embed_dim=S.latent))
    sizes = {'ch_mult': S.multipliers, 'num_res_blocks': S.residual_blocks, 'z_channels': S.features}
    model.encoder, model.decoder = llamagen.Encoder(**sizes), llamagen.Decoder(**sizes)
    model.quant_conv = torch.nn.Conv2d(S.features, S.latent, 1)
    model.post_quant_conv = torch.nn.Conv2d(S.latent, S.features, 1)
    return model


def of_var():
    sizes = {'ch': S.channels, 'ch_mult': S.multipliers, 'num_res_blocks': 1, 'z_channels': SCALED.latent}
    model = torch.nn.Module()
    model.encoder, model.decoder = basic_vae.Encoder(**sizes), basic_vae.Decoder(**sizes)
    model.quant_conv, model.post_quant_conv = (torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
    model.quantize = quant.VectorQuantizer2(S.num_codes, SCALED.latent, False, v_patch_nums=SCALES)
    return model


def of_diffusers(coded):
    widths = [S.channels * multiplier for multiplier in S.multipliers]
    common = {
        'down_block_types': ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'],
        'up_block_types': ['AttnUpDecoderBlock2D', 'UpDecoderBlock2D'],
        'block_out_channels': widths,
        'layers_per_block': S.residual_blocks,
    }
    if coded:
        return DiffusersVQModel(
            **common, latent_channels=S.features, num_vq_embeddings=S.num_codes, vq_embed_dim=S.latent
        )
    return AutoencoderKL(**common, latent_channels=KL.latent)


def flat(x):
    return [float(f'{value:.6g}') for value in np.asarray(x.permute(0, 2, 3, 1)[:, ::3, ::3]).reshape(-1)]


x = torch.tensor(images()).permute(0, 3, 1, 2) / 127.5 - 1
made = {}
with torch.no_grad():
    for name, model in (
        ('taming', taming(False)),
        ('llamagen', of_llamagen()),
        ('var', of_var()),
        ('diffusers-vq', of_diffusers(True)),
        ('latent-diffusion', taming(True)),
        ('diffusers-kl', of_diffusers(False)),
    ):
        weights = {key: torch.tensor(value) for key, value in random_weights(name).items()}
        if name == 'llamagen':
            weights['quantize.codebook_used'] = torch.zeros(65_536)
        if name == 'var':
            weights['quantize.ema_vocab_hit_SV'] = torch.zeros(len(SCALES), S.num_codes)
        model.load_state_dict(weights)
        model.eval()
        moments = model.quant_conv(model.encoder(x))
        if 'kl' in name or name == 'latent-diffusion':
            latents = moments[:, : S.latent]
            made[name] = {'latents': flat(latents)}
        elif name == 'var':
            codes = model.quantize.f_to_idxBl_or_fhat(moments, to_fhat=False)
            latents = model.quantize.f_to_idxBl_or_fhat(moments, to_fhat=True)[-1]
            made[name] = {'codes': torch.cat(codes, 1).tolist()}
        else:
            latents, _, (*_, codes) = model.quantize(moments)
            made[name] = {'codes': codes.reshape(2, 8, 8).tolist()}
        made[name]['decoded'] = flat(model.decoder(model.post_quant_conv(latents)))
Path(__file__).with_name('published.json').write_text(json.dumps(made) + '\n')
