"""MaskGIT: Chang et al. 2022 (arXiv:2202.04200), whose own files are Flax's."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError
from vq_jax.weights.layers import check_groups
from vq_jax.weights.project import IMAGENET, Project, Published, Row, Way
from vq_jax.weights.vqgan import Sizes, network_config

_SOURCE = 'https://github.com/google-research/maskgit'
_CLASSES = 1000  # of ImageNet, on which all published ones learned; no array says where they begin
_WORDS = 'Embed_0.word_embeddings.embedding'  # of codes, then classes, then the mask
_POSITIONS = 'Embed_0.position_embeddings.embedding'  # of the class, then of codes
_LAYER = 'TransformerLayer_{}'


class MaskGITTokenizer(Project):
    """The tokenizer, a VQGAN of `vq_jax.models.residual` of the form 'maskgit'.

    Attributes:
        TASK: see `Project`.
    """

    TASK: ClassVar[str] = 'vqgan'

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        return ('quantizer.codebook', 'encoder.ResBlock_0.Conv_0.kernel', 'decoder.ResBlock_0.Conv_0.kernel')

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> Sizes:
        """See `Project.sizes`: of each resolution, one convolution of the decoder says that it is there."""
        levels, blocks = _count(arrays, 'decoder.Conv') - 1, _count(arrays, 'encoder.ResBlock')
        if levels < 1 or blocks % (levels + 1):
            raise UserError(
                f'a decoder of {self.title} with {max(levels, 0) + 1} convolutions has {max(levels, 0)} '
                f'resolutions, and its encoder a multiple of {max(levels, 0) + 1} blocks, not {blocks}.'
            )
        each = blocks // (levels + 1)
        first = [f'encoder.ResBlock_{level * each}.Conv_0.kernel' for level in range(levels)]
        channels = self.size(arrays, 'encoder.Conv_0.kernel', 3, 4)
        widths = [self.size(arrays, name, 3, 4) for name in first]
        if any(width % channels for width in widths):
            raise UserError(f'the channels of a model of {self.title} are {channels} and {widths}.')
        latent = self.size(arrays, 'quantizer.codebook', 1, 2)
        return Sizes(
            image_channels=self.size(arrays, 'encoder.Conv_0.kernel', 2, 4),
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            residual_blocks=each,
            attention=(),
            features=latent,
            latent=latent,
            num_codes=self.size(arrays, 'quantizer.codebook', 0, 2),
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> Sizes:
        """See `Project.sizes_of`."""
        return Sizes(
            image_channels=config['data.channels'],
            channels=config['model.channels'],
            multipliers=tuple(config['model.multipliers']),
            residual_blocks=config['model.residual_blocks'],
            attention=(),
            features=config['model.features'],
            latent=config['model.features'],
            num_codes=config['quantizer.num_codes'],
        )

    def config(self, sizes: Sizes) -> dict[str, Any]:
        """See `Project.config`."""
        check_groups(self.title, [sizes.channels * multiplier for multiplier in (1, *sizes.multipliers)])
        return {
            **network_config(sizes, 'maskgit'),
            'variant.bottleneck': 'quantizer',
            'quantizer.kind': 'vq',
            'quantizer.groups': 1,
            'quantizer.num_codes': sizes.num_codes,
            'quantizer.code_dim': None,
            'quantizer.cosine': False,
        }

    def given(self, sizes: Sizes) -> dict[str, Any]:
        """See `Project.given`: that codes are learned by gradients alone."""
        codes = {'quantizer.learning': 'gradient', 'quantizer.codebook_init': 'random'}
        return {'data.channels': sizes.image_channels, **codes}

    def table(self, sizes: Sizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        codebook = 'codebook' if config.get('quantizer.learning') == 'moving_average' else 'params'
        shape = (sizes.num_codes, sizes.latent)
        way = (codebook, 'bottleneck', 'codebook')
        return [*_Layers(sizes).rows, Row('quantizer.codebook', shape, way, (0, 1), shape)]


class _Layers:
    """Rows of encoder and decoder, in the order in which the data pass them."""

    def __init__(self, sizes: Sizes) -> None:
        self.rows: list[Row] = []
        each, width = sizes.residual_blocks, sizes.channels
        widths = [width * multiplier for multiplier in sizes.multipliers]
        last, levels = widths[-1], len(widths)
        self._conv('encoder.Conv_0', 'encoder.Conv_0', sizes.image_channels, width, biases=False)
        # The coarsest resolution is there twice: the second time in the middle.
        self._blocks('encoder', 'encoder', width, [out for out in [*widths, last] for _ in range(each)])
        self.rows += _norm('encoder.GroupNorm_0', 'encoder.GroupNorm_0', last)
        self._conv('encoder.Conv_1', 'encoder.Conv_1', last, sizes.features, size=1)
        ours = 'decoder.trunk'
        self._conv('decoder.Conv_0', f'{ours}.Conv_0', sizes.features, last)
        self._blocks('decoder', ours, last, [out for out in [last, *widths[::-1]] for _ in range(each)])
        for number, out in enumerate(widths[:0:-1]):
            self._conv(f'decoder.Conv_{number + 1}', f'{ours}.Upsample_{number}', out, out)
        self.rows += _norm('decoder.GroupNorm_0', f'{ours}.GroupNorm_0', widths[0])
        self._conv(f'decoder.Conv_{levels}', 'decoder.last', widths[0], sizes.image_channels)

    def _blocks(self, theirs: str, ours: str, width: int, outs: list[int]) -> None:
        for number, out in enumerate(outs):
            there, here = f'{theirs}.ResBlock_{number}', f'{ours}.ResidualBlock_{number}'
            for part, c in enumerate((width, out)):
                self.rows += _norm(f'{there}.GroupNorm_{part}', f'{here}.GroupNorm_{part}', c)
                self._conv(f'{there}.Conv_{part}', f'{here}.Conv_{part}', c, out, biases=False)
            if width != out:
                self._conv(f'{there}.Conv_2', f'{here}.Conv_2', out, out, size=1, biases=False)
            width = out

    def _conv(self, theirs: str, ours: str, width: int, out: int, size: int = 3, biases: bool = True) -> None:
        self.rows.append(_same(f'{theirs}.kernel', f'{ours}.kernel', (size, size, width, out)))
        if biases:
            self.rows.append(_same(f'{theirs}.bias', f'{ours}.bias', (out,)))


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """Sizes of a transformer, as far as its arrays say.

    Attributes:
        depth: blocks.
        width: of the vectors.
        heads: of attention.
        mlp_width: between the connected layers.
        num_codes: codes; embeddings of classes and of the mask come after theirs.
        positions: of codes.
    """

    depth: int
    width: int
    heads: int
    mlp_width: int
    num_codes: int
    positions: int


class MaskGITTransformer(Project):
    """The transformer that predicts masked codes, given a class of ImageNet, which is a token before them.

    Attributes:
        TASK: see `Project`.
        BUILT_ON: see `Project`.
    """

    TASK: ClassVar[str] = 'prior'
    BUILT_ON: ClassVar[tuple[str, str] | None] = ('tokenizer', 'a prior of the codes of a tokenizer')

    def marks(self) -> tuple[str, ...]:
        """See `Project.marks`."""
        return (_WORDS, 'TransformerLayer_0.Mlp_0.layer_output.kernel', 'MlmLayer_0.mlm_bias.bias')

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> TransformerSizes:
        """See `Project.sizes`."""
        words = self.size(arrays, _WORDS, 0, 2)
        if words <= _CLASSES + 1:
            raise UserError(
                f'a model of {self.title} has embeddings of codes, of {_CLASSES:,} classes and of a mask, '
                f'and there are {words:,}.'
            )
        return TransformerSizes(
            depth=_count(arrays, 'TransformerLayer'),
            width=self.size(arrays, _WORDS, 1, 2),
            heads=self.size(arrays, f'{_LAYER.format(0)}.Attention_0.self_attention.query.kernel', 1, 3),
            mlp_width=self.size(arrays, f'{_LAYER.format(0)}.Mlp_0.intermediate_output.kernel', 1, 2),
            num_codes=words - _CLASSES - 1,
            positions=self.size(arrays, _POSITIONS, 0, 2) - 1,
        )

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> TransformerSizes:
        """See `Project.sizes_of`."""

        def size(*way: str, axis: int = 0) -> int:
            return shapes.get(('params', *way), (1, 1))[axis]

        return TransformerSizes(
            depth=config['transformer.depth'],
            width=config['transformer.width'],
            heads=config['transformer.heads'],
            mlp_width=size('blocks_0', 'widen', 'kernel', axis=1),
            num_codes=size('token', 'embedding') - 1,
            positions=math.prod(grid),
        )

    def config(self, sizes: TransformerSizes) -> dict[str, Any]:
        """See `Project.config`."""
        return {
            'task': 'prior',
            'model.kind': 'maskgit',
            'model.pattern': 'flattened',
            'model.scale': None,
            'model.given': 0.0,
            'model.class_conditional': True,
            'conditioner.kind': None,
            'transformer.depth': sizes.depth,
            'transformer.width': sizes.width,
            'transformer.heads': sizes.heads,
            'transformer.mlp_ratio': sizes.mlp_width // sizes.width,
            'transformer.positions': 'learned',
            'transformer.norm': 'layer',
            'transformer.norm_epsilon': 1e-12,
            'transformer.norm_first': False,
            'transformer.mlp': 'gelu_tanh',
            'transformer.biases': True,
            'transformer.head': 'tied',
        }

    def check_grid(self, sizes: TransformerSizes, grid: tuple[int, ...]) -> None:
        """See `Project.check_grid`: of as many codes as there are positions."""
        if math.prod(grid) != sizes.positions:
            raise UserError(
                f'a model of {self.title} with {sizes.positions:,} positions learns as many codes, and these '
                f'are {math.prod(grid):,}; give its size of images, by --override=data.image_size=N.'
            )

    def num_classes(self, sizes: TransformerSizes, config: Mapping[str, Any]) -> int:
        """See `Project.num_classes`."""
        return _CLASSES

    def table(self, sizes: TransformerSizes, config: Mapping[str, Any]) -> list[Row]:
        """See `Project.table`."""
        width, codes, n = sizes.width, sizes.num_codes, sizes.positions + 1
        words = codes + _CLASSES + 1
        token, label = ('params', 'token', 'embedding'), ('params', 'label', 'embedding')
        shape = (codes + 1, width)
        rows = [
            Row(_WORDS, (words, width), way, (0, 1), shape, span=span, within=(0, *within))
            for way, shape, span, within in (
                (token, shape, (0, codes), (0, codes)),
                # Here there is one more class, for none, which is never learned.
                (label, (_CLASSES + 1, width), (codes, words - 1), (0, _CLASSES)),
                (token, shape, (words - 1, words), (codes, codes + 1)),
            )
        ]
        rows.append(_same(_POSITIONS, 'position', (n, width)))
        rows += _norm('Embed_0.embeddings_ln', 'norm', width)
        for block in range(sizes.depth):
            rows += _block(_LAYER.format(block), f'blocks_{block}', sizes)
        rows += _dense('MlmLayer_0.mlm_dense', 'head.dense', width, width)
        rows += _norm('MlmLayer_0.mlm_ln', 'head.norm', width)
        of_codes = {0: np.arange(codes)}  # nothing ever predicts classes or masks
        bias = ('params', 'head', 'bias')
        return [*rows, Row('MlmLayer_0.mlm_bias.bias', (words,), bias, (0,), (codes,), orders=of_codes)]


def _block(theirs: str, ours: str, sizes: TransformerSizes) -> list[Row]:
    width, heads, rows = sizes.width, sizes.heads, []
    attention, split = f'{theirs}.Attention_0', (heads, width // heads)
    way = ('params', ours, 'qkv')
    for number, name in enumerate(('query', 'key', 'value')):
        there, span = f'{attention}.self_attention.{name}', (number * width, (number + 1) * width)
        kernel = Row(
            f'{there}.kernel',
            (width, *split),
            (*way, 'kernel'),
            (0, 1, 2),
            (width, 3 * width),
            within=(1, *span),
        )
        bias = Row(f'{there}.bias', split, (*way, 'bias'), (0, 1), (3 * width,), within=(0, *span))
        rows += [kernel, bias]
    out, way = f'{attention}.self_attention.out', ('params', ours, 'attended')
    rows.append(Row(f'{out}.kernel', (*split, width), (*way, 'kernel'), (0, 1, 2), (width, width)))
    rows.append(_same(f'{out}.bias', f'{ours}.attended.bias', (width,)))
    rows += _norm(f'{attention}.attention_output_ln', f'{ours}.after_attention', width)
    rows += _dense(f'{theirs}.Mlp_0.intermediate_output', f'{ours}.widen', width, sizes.mlp_width)
    rows += _dense(f'{theirs}.Mlp_0.layer_output', f'{ours}.narrow', sizes.mlp_width, width)
    return rows + _norm(f'{theirs}.Mlp_0.layer_output_ln', f'{ours}.after_mlp', width)


def _norm(theirs: str, ours: str, width: int) -> list[Row]:
    return [_same(f'{theirs}.{name}', f'{ours}.{name}', (width,)) for name in ('scale', 'bias')]


def _dense(theirs: str, ours: str, width: int, out: int) -> list[Row]:
    kernel = _same(f'{theirs}.kernel', f'{ours}.kernel', (width, out))
    return [kernel, _same(f'{theirs}.bias', f'{ours}.bias', (out,))]


def _same(theirs: str, ours: str, shape: tuple[int, ...]) -> Row:
    """An array that is the same there and here."""
    return Row(theirs, shape, ('params', *ours.split('.')), tuple(range(len(shape))), shape)


def _count(arrays: Mapping[str, np.ndarray], layers: str) -> int:
    """How many layers there are of a name, which are numbered, whichever of their arrays there are."""
    found = (re.match(rf'{re.escape(layers)}_(\d+)\.', name) for name in arrays)
    return max((int(number.group(1)) + 1 for number in found if number), default=0)


# What `vqgan_config.py` and `maskgit_class_cond_config.py` say; of losses there is no more than that.
_TRAINED = {
    'batch_size': 256,
    'quantizer.commitment': 0.25,
    'adversarial.loss': 'non_saturating',
    'adversarial.weight': 0.1,
    'adversarial.adaptive': False,
    **{
        f'{optimizer}.{key}': value
        for optimizer in ('optimizer', 'discriminator_optimizer')
        for key, value in {'learning_rate': 1e-4, 'b1': 0.0, 'b2': 0.99}.items()
    },
}
_TRAINED_TRANSFORMER = {
    'batch_size': 256,
    'transformer.dropout': 0.1,
    'optimizer.name': 'adamw',
    'optimizer.learning_rate': 1e-4,
    'optimizer.b1': 0.9,
    'optimizer.b2': 0.96,
    'optimizer.weight_decay': 4.5e-2,
    'optimizer.warmup_steps': 5000,
}

MASKGIT = MaskGITTokenizer(
    name='maskgit',
    title='MaskGIT',
    source=_SOURCE,
    licence='Apache-2.0',
    roots=('params.', ''),
    section='params',
    published=(
        Published(
            'tokenizer_imagenet',
            {
                'channels': 128,
                'multipliers': (1, 1, 2, 2, 4),
                'residual_blocks': 2,
                'latent': 256,
                'num_codes': 1024,
            },
            _TRAINED,
            {
                'rFID on the validation set of ImageNet': '2.28 of 256 pixels, 1.97 of 512 pixels',
            },
        ),
    ),
    # LPIPS would have to be downloaded before anything can be evaluated.
    defaults={**IMAGENET, 'perceptual.kind': 'none', 'quantizer.revive_below': 0.0},
)

MASKGIT_TRANSFORMER = MaskGITTransformer(
    name='maskgit-transformer',
    title="MaskGIT's transformer",
    source=_SOURCE,
    licence='Apache-2.0',
    roots=('params.', ''),
    section='params',
    defaults={**IMAGENET, 'data.channels': 3, 'model.label_dropout': 0.0},
    # Steps are those of the paper's table 1.
    published=tuple(
        Published(
            f'maskgit_imagenet{pixels}',
            {'depth': 24, 'width': 768, 'num_codes': 1024, 'positions': positions},
            {
                **_TRAINED_TRANSFORMER,
                'data.image_size': pixels,
                'sampling.steps': steps,
                'sampling.confidence_temperature': 4.5,
            },
            {f'FID on ImageNet at {pixels} pixels': distance},
        )
        for pixels, positions, steps, distance in ((256, 256, 8, '6.06'), (512, 1024, 12, '7.32'))
    ),
)
