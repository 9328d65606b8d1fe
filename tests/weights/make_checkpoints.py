"""Wrote `lightning*.ckpt` beside it, with PyTorch 2.13.0: tensors of all kinds among other objects."""

import argparse
import collections
import pathlib
import sys
import types

import numpy as np
import torch

base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
weights = collections.OrderedDict(
    plain=base,
    transposed=base.T,
    stretch=base[1:3, ::2],
    half=torch.tensor([0.5, -2.0], dtype=torch.float16),
    brain=torch.tensor([0.5, -3.0], dtype=torch.bfloat16),
    count=torch.tensor(7),
    flags=torch.tensor([True, False]),
    bytes=torch.tensor([1, 255], dtype=torch.uint8),
    empty=torch.zeros(0, 3),
    learned=torch.nn.Parameter(torch.tensor([1.5])),
)
weights._metadata = collections.OrderedDict(version=1)


class ModelCheckpoint:
    """As of a package that whoever reads the file need not have."""

    def __init__(self):
        self.best = 1.0


class AttributeDict(dict):
    """The same."""


package = types.ModuleType('pytorch_lightning')
for kind in (ModelCheckpoint, AttributeDict):
    kind.__module__ = package.__name__
    setattr(package, kind.__name__, kind)
sys.modules[package.__name__] = package

checkpoint = {
    'epoch': 3,
    'callbacks': {
        ModelCheckpoint: {'best_model_score': torch.tensor(0.25), 'dirpath': pathlib.PosixPath('a')}
    },
    'optimizer_states': [
        {'state': {0: {'step': 5, 'exp_avg': torch.ones(2)}}, 'param_groups': [{'lr': 1e-3}]}
    ],
    'state_dict': weights,
    'hyper_parameters': AttributeDict(
        lr=np.float64(0.1),
        args=argparse.Namespace(a=1),
        own=ModelCheckpoint(),
        seen={1, 2},
        lists=collections.defaultdict(list, a=[1]),
    ),
}
folder = pathlib.Path(__file__).parent
torch.save(checkpoint, folder / 'lightning.ckpt')
torch.save(checkpoint, folder / 'lightning_protocol4.ckpt', pickle_protocol=4)
torch.save(checkpoint, folder / 'lightning_legacy.ckpt', _use_new_zipfile_serialization=False)
