"""Made `published_networks.json`: what networks of other projects give with `models.random_weights`.

By `python -m tests.weights.make_published_networks`, with PyTorch 2.13.0 on a CPU, timm 1.0.31, einops, and
on the path LlamaGen (commit ce98ec4), taming-transformers (3ba01b2), DAC (c7cfc5d), EnCodec (0e2d0ae) and the
folders `dit` and `sit` with DiT (ed81ce2) and SiT (947f95b). Of DAC and EnCodec single files are imported, so
that what only their commands need is not.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

from tests.weights.models import (
    GUMBEL,
    HEADS,
    LABELS,
    OF_CODES,
    OF_LATENTS,
    OF_SOUND,
    STEPS,
    codes,
    images,
    latents,
    random_weights,
    sounds,
)


def packages(*names):
    """Makes packages whose own code is not run."""
    for name in names:
        parts = name.split('.')
        folders = (Path(folder, *parts) for folder in sys.path)
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(next(folder for folder in folders if folder.is_dir()))]


packages('dac', 'dac.model', 'dac.nn', 'encodec')
# What is imported, and not used: of a version that there is no more, and for files of sound.
sys.modules['transformers'] = types.SimpleNamespace(top_k_top_p_filtering=None)
sys.modules['audiotools'] = types.SimpleNamespace(AudioSignal=None)
sys.modules['audiotools.ml'] = types.SimpleNamespace(BaseModel=torch.nn.Module)

from autoregressive.models import gpt as llamagen  # noqa: E402
from dac.model.dac import Decoder, Encoder  # noqa: E402
from dac.nn.quantize import ResidualVectorQuantize  # noqa: E402
from dit.diffusion import create_diffusion  # noqa: E402
from dit.models import DiT  # noqa: E402
from encodec.modules.seanet import SEANetDecoder, SEANetEncoder  # noqa: E402
from encodec.quantization.vq import ResidualVectorQuantizer  # noqa: E402
from sit.models import SiT  # noqa: E402
from taming.modules.diffusionmodules import model as taming  # noqa: E402
from taming.modules.transformer import mingpt  # noqa: E402
from taming.modules.vqvae.quantize import GumbelQuantize  # noqa: E402


def flat(x):
    return [float(f'{value:.6g}') for value in np.asarray(x).reshape(-1)]


def loaded(model, project):
    weights = {name: torch.tensor(array) for name, array in random_weights(project).items()}
    missing, surplus = model.load_state_dict(weights, strict=False)
    fixed = ('attn.mask', 'pos_embed', 'inited', 'cluster_size', 'embed_avg')
    assert not surplus and all(name.endswith(fixed) for name in missing), (missing, surplus)
    return model.eval()


def of_taming():
    s = OF_CODES['taming-gpt']
    model = mingpt.GPT(s.num_codes, s.positions, n_layer=s.depth, n_head=HEADS, n_embd=s.width)
    model, labels = loaded(model, 'taming-gpt'), torch.tensor(LABELS)[:, None]

    def logits(tokens):
        return model(torch.cat([labels, tokens], 1))[0]

    return logits


def of_llamagen():
    s = OF_CODES['llamagen-gpt']
    sizes = {'n_layer': s.depth, 'n_head': HEADS, 'dim': s.width, 'vocab_size': s.num_codes}
    model = llamagen.Transformer(llamagen.ModelArgs(**sizes, num_classes=s.classes, block_size=64))
    model = loaded(model, 'llamagen-gpt')

    def conditional(tokens, labels):
        slots = torch.arange(tokens.shape[1] + 1)
        return model(tokens, labels, input_pos=slots)[0]

    def logits(tokens, guidance=1.0):
        given = conditional(tokens, torch.tensor(LABELS))
        if guidance == 1:
            return given
        none = conditional(tokens, torch.full((2,), s.classes))
        return none + (given - none) * guidance

    return logits


def of_latents(kind, project):
    s = OF_LATENTS[project]
    sizes = {'hidden_size': s.width, 'depth': s.depth, 'num_heads': HEADS, 'num_classes': s.classes}
    return loaded(kind(input_size=8, patch_size=s.patch, in_channels=s.latent, **sizes), project)


def of_dac():
    s, model = OF_SOUND['dac'], torch.nn.Module()
    model.encoder = Encoder(s.channels, list(s.strides), s.features)
    model.quantizer = ResidualVectorQuantize(s.features, s.depth, s.num_codes, s.code_dim)
    width = s.decoder_channels << len(s.strides)
    model.decoder = Decoder(s.features, width, list(s.strides[::-1]))
    return loaded(model, 'dac')


def of_encodec():
    s, model = OF_SOUND['encodec'], torch.nn.Module()
    sizes = {'dimension': s.features, 'n_filters': s.channels, 'ratios': list(s.strides[::-1])}
    model.encoder, model.decoder = (kind(**sizes, causal=True) for kind in (SEANetEncoder, SEANetDecoder))
    model.quantizer = ResidualVectorQuantizer(s.features, s.depth, s.num_codes)
    return loaded(model, 'encodec')


def of_gumbel():
    """`GumbelVQ`, which derives from a class of PyTorch Lightning, of its parts."""
    options = {
        'ch': GUMBEL.channels,
        'out_ch': 3,
        'ch_mult': GUMBEL.multipliers,
        'num_res_blocks': GUMBEL.residual_blocks,
        'attn_resolutions': [8],
        'in_channels': 3,
        'resolution': 16,
        'z_channels': GUMBEL.features,
    }
    model = torch.nn.Module()
    model.encoder, model.decoder = taming.Encoder(**options, double_z=False), taming.Decoder(**options)
    model.quant_conv, model.post_quant_conv = (torch.nn.Conv2d(16, 16, 1) for _ in range(2))
    model.quantize = GumbelQuantize(GUMBEL.features, GUMBEL.latent, GUMBEL.num_codes)
    return loaded(model, 'taming-gumbel')


made = {}
with torch.no_grad():
    for project, logits, sampling in (
        ('taming-gpt', of_taming(), {}),
        ('llamagen-gpt', of_llamagen(), {'guidance': 2.0}),
    ):
        tokens = torch.tensor(codes(project)).long()
        found = logits(tokens[:, :-1])
        sampled = tokens[:, :0]
        for _ in range(64):  # the likeliest code after those before
            sampled = torch.cat([sampled, logits(sampled, **sampling)[:, -1:].argmax(-1)], 1)
        made[project] = {'logits': flat(found[:, ::7, ::8]), 'sampled': sampled.tolist()}
    x, labels = torch.tensor(latents()).permute(0, 3, 1, 2), torch.tensor(LABELS)
    dit, sit, steps = of_latents(DiT, 'dit'), of_latents(SiT, 'sit'), torch.tensor(STEPS)
    made['dit'] = {'outputs': flat(dit(x, steps, labels).permute(0, 2, 3, 1)[:, ::2, ::3])}
    given = {'model_kwargs': {'y': labels}, 'clip_denoised': False}
    step = create_diffusion('', diffusion_steps=1000).p_mean_variance(dit, x, steps, **given)
    made['dit'] |= {
        name: flat(step[name].permute(0, 2, 3, 1)[:, ::2, ::3]) for name in ('mean', 'log_variance')
    }
    times = 1 - (steps + 1) / 1000  # from noise to data
    made['sit'] = {'outputs': flat(sit(x, times, labels).permute(0, 2, 3, 1)[:, ::2, ::3])}
    sound, dac, encodec = torch.tensor(sounds()).permute(0, 2, 1), of_dac(), of_encodec()
    values, found, *_ = dac.quantizer(dac.encoder(sound))
    made['dac'] = {'codes': found.permute(0, 2, 1).tolist(), 'decoded': flat(dac.decoder(values)[:, 0, ::3])}
    found = encodec.quantizer.vq.encode(encodec.encoder(sound))
    decoded = encodec.decoder(encodec.quantizer.vq.decode(found))
    made['encodec'] = {'codes': found.permute(1, 2, 0).tolist(), 'decoded': flat(decoded[:, 0, ::3])}
    gumbel, x = of_gumbel(), torch.tensor(images()).permute(0, 3, 1, 2) / 127.5 - 1
    # The likeliest codes: its own `forward` samples them.
    found = gumbel.quantize.proj(gumbel.quant_conv(gumbel.encoder(x))).argmax(1)
    vectors = gumbel.quantize.embed(found).permute(0, 3, 1, 2)
    decoded = gumbel.decoder(gumbel.post_quant_conv(vectors))
    decoded = flat(decoded.permute(0, 2, 3, 1)[:, ::3, ::3])
    made['taming-gumbel'] = {'codes': found.tolist(), 'decoded': decoded}
Path(__file__).with_name('published_networks.json').write_text(json.dumps(made) + '\n')
