"""How the peers in PyTorch train a diffusion model, and sample from it.

With Adam and a moving average of the parameters, by the cosine schedule and the prediction of v. Not used by
the project itself.
"""

import copy
import itertools
import math

import torch
from torch_vqvae import adam


def scales(t):
    """Alpha and sigma of the cosine schedule at times [b], for [b c h w]."""
    angle = (t + 0.008) / 1.008 * math.pi / 2
    alpha = (angle.cos() / math.cos(0.008 / 1.008 * math.pi / 2)).clamp(0, 1)[:, None, None, None]
    return alpha, (1 - alpha**2).clamp(min=1e-6).sqrt()


def training_step(network, config, device, dtype, prepare):
    """A training step `images uint8 [b h w c] tensor -> loss`, of the prediction of v.

    The network takes noisy images [b c h w], times from 0 to 1 [b] and classes [b]; `prepare` puts it on the
    device, and may compile it.
    """
    model = prepare(network)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = adam(model, config.optimizer)
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    def step(images):
        x0 = images.permute(0, 3, 1, 2).float() * (2 / 255) - 1
        t, noise = torch.rand(len(x0), device=device), torch.randn_like(x0)
        labels = torch.zeros(len(x0), dtype=torch.long, device=device)
        alpha, sigma = scales(t)
        with autocast:
            loss = (
                (model(alpha * x0 + sigma * noise, t, labels) - (alpha * noise - sigma * x0)).square().mean()
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.01)
        return loss.detach()

    return step


def sampler(model, shape, n, device, dtype):
    """A function `steps -> images` that draws n images of a shape [h w c] by DDIM."""
    model = model.eval()
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    @torch.no_grad()
    def sample(steps):
        h, w, c = shape
        x = torch.randn(n, c, h, w, device=device)
        labels = torch.zeros(n, dtype=torch.long, device=device)
        times = torch.linspace(1, 0, steps + 1, device=device)
        for t, s in itertools.pairwise(times):
            alpha, sigma = scales(t.expand(n))
            with autocast:
                v = model(x, t.expand(n), labels).float()
            x0 = (alpha * x - sigma * v).clamp(-1, 1)
            noise = (x - alpha * x0) / sigma
            alpha, sigma = scales(s.expand(n))
            x = alpha * x0 + sigma * noise
        return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()

    return sample
