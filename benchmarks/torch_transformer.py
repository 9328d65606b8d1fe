"""The prior's transformer in PyTorch, which learns and draws tokens: a peer that benchmarks measure against.

The same layers as `vq_jax.models.transformer` with learned positions. `draw`, in eager mode, keeps keys and
values of the tokens before, in tensors that are allocated once; without the cache it does what the
published codes of GPT and VQGAN do, and puts all tokens so far through the network for each new one.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch_vqvae import adam


class Block(nn.Module):
    """Attention, then connected layers, each added to what came in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache, slot):
        """[b n d] to the same; with a cache [2 b h N d], x is slot number `slot` alone."""
        b, n, d = x.shape
        qkv = self.qkv(self.before_attention(x)).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0, :, :, slot : slot + 1], cache[1, :, :, slot : slot + 1] = k, v
            k, v = cache[:, :, :, : slot + 1]
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.attended(seen.transpose(1, 2).reshape(b, n, d))
        hidden = F.gelu(self.widen(self.before_mlp(x)), approximate='tanh')
        return x + self.narrow(hidden)


class Transformer(nn.Module):
    """Tokens to logits of the next."""

    def __init__(self, num_tokens, length, depth, width, heads):
        super().__init__()
        self.token = nn.Embedding(num_tokens + 1, width)  # the last one stands for the class
        self.place = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_tokens)

    def forward(self, tokens, caches=None, slot=0, after_all=False):
        """The logits after the last token, or after all."""
        x = self.token(tokens) + self.place[slot : slot + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], slot)
        return self.head(self.norm(x if after_all else x[:, -1]))


def make_step(config, image_channels, device, dtype, prepare):
    """A training step `images uint8 [b h w c] tensor -> loss` of a prior over the values of pixels.

    `prepare` puts a network on the device, and may compile it.
    """
    torch.manual_seed(0)
    sizes = config.transformer
    length = config.data.image_size**2 * image_channels
    model = prepare(Transformer(256, length, sizes.depth, sizes.width, sizes.heads))
    optimizer = adam(model, config.optimizer)
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == 'bfloat16')

    def step(images):
        tokens = images.flatten(1).long()
        before = F.pad(tokens[:, :-1], (1, 0), value=256)
        with autocast:
            logits = model(before, after_all=True)
        loss = F.cross_entropy(logits.float().transpose(1, 2), tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@torch.inference_mode()
def draw(model, batch, length, cached):
    """Draws sequences [batch length]."""
    weight = model.head.weight
    tokens = torch.full((batch, 1), model.head.out_features, device=weight.device)
    caches = None
    if cached:
        heads, width = model.blocks[0].heads, weight.shape[1]
        shape = (len(model.blocks), 2, batch, heads, length, width // heads)
        caches = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    for slot in range(length):
        logits = model(tokens[:, -1:], caches, slot) if cached else model(tokens)
        drawn = torch.multinomial(F.softmax(logits.float(), -1), 1)
        tokens = torch.cat([tokens, drawn], 1)
    return tokens[:, 1:]
