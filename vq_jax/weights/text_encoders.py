"""Text encoders as Hugging Face's `transformers` keeps them: T5's, and that of CLIP.

A folder holds `config.json`, the weights in `model.safetensors` or `pytorch_model.bin`, in one file or
several, and `tokenizer.json`. Of a whole T5 or CLIP, what is no text encoder is left out.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from vq_jax.errors import UserError
from vq_jax.files import is_inside
from vq_jax.json_files import check_type, read_json
from vq_jax.weights.project import Row, Way, ours_of
from vq_jax.weights.read import read_weights

TOKENIZER = 'tokenizer.json'
_CONFIG = 'config.json'
_FILES = ('model.safetensors', 'pytorch_model.bin')
_Size = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_EPSILONS = {'t5': 1e-6, 'clip': 1e-5}  # of all that are published


@dataclasses.dataclass(frozen=True)
class _T5:
    """What `config.json` says of a T5, by the names that it has there."""

    BLOCKS: ClassVar[str] = 'encoder.block'

    vocab_size: _Size
    d_model: _Size
    d_kv: _Size
    d_ff: _Size
    num_layers: _Size
    num_heads: _Size
    feed_forward_proj: str = 'relu'
    relative_attention_num_buckets: _Size = 32
    relative_attention_max_distance: _Size = 128
    layer_norm_epsilon: float = 1e-6

    def sizes(self) -> dict[str, Any]:
        """The attributes of `vq_jax.models.T5Encoder`."""
        return {
            'vocabulary': self.vocab_size,
            'width': self.d_model,
            'depth': self.num_layers,
            'heads': self.num_heads,
            'head_width': self.d_kv,
            'mlp_width': self.d_ff,
            'gated': self.feed_forward_proj == 'gated-gelu',
            'buckets': self.relative_attention_num_buckets,
            'distance': self.relative_attention_max_distance,
        }

    def misfit(self) -> str | None:
        """What of it is not computed here."""
        if self.feed_forward_proj not in ('relu', 'gated-gelu'):
            return f'feed_forward_proj={self.feed_forward_proj}'
        buckets, most = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if not 1 <= buckets // 4 < most:  # a quarter has a distance each, and the others go on to the most
            return f'{buckets} buckets of distances up to {most}'
        return _of_epsilon('t5', self.layer_norm_epsilon)

    def table(self) -> list[Row]:
        """Its arrays and ours."""
        d, inner, wide = self.d_model, self.num_heads * self.d_kv, self.d_ff
        buckets = self.relative_attention_num_buckets, self.num_heads
        first = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
        rows = [
            _plain('shared.weight', 'token.embedding', (self.vocab_size, d)),
            _plain(first, 'position', buckets),
            _plain('encoder.final_layer_norm.weight', 'norm.scale', (d,)),
        ]
        gated = self.feed_forward_proj == 'gated-gelu'
        gates = {'wi_0': 'gate', 'wi_1': 'widen'} if gated else {'wi': 'widen'}
        for i in range(self.num_layers):
            layers = [f'encoder.block.{i}.layer.{layer}' for layer in range(2)]
            for theirs, ours in {'q': 'query', 'k': 'key', 'v': 'value'}.items():
                rows.append(_kernel(f'{layers[0]}.SelfAttention.{theirs}', f'block_{i}.{ours}', d, inner))
            rows.append(_kernel(f'{layers[0]}.SelfAttention.o', f'block_{i}.attended', inner, d))
            for theirs, ours in gates.items():
                rows.append(_kernel(f'{layers[1]}.DenseReluDense.{theirs}', f'block_{i}.{ours}', d, wide))
            rows.append(_kernel(f'{layers[1]}.DenseReluDense.wo', f'block_{i}.narrow', wide, d))
            for layer, ours in zip(layers, ('before_attention', 'before_mlp'), strict=True):
                rows.append(_plain(f'{layer}.layer_norm.weight', f'block_{i}.{ours}.scale', (d,)))
        return rows

    @staticmethod
    def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of a file by the names in the table; of an encoder alone, embeddings have another."""
        named = dict(arrays)
        if 'encoder.embed_tokens.weight' in named:
            named.setdefault('shared.weight', named['encoder.embed_tokens.weight'])
        return named


@dataclasses.dataclass(frozen=True)
class _CLIP:
    """What `config.json` says of the text encoder of a CLIP, by the names that it has there.

    What it does not say, and of a whole CLIP leaves out as well, is as in the first that was published.
    """

    BLOCKS: ClassVar[str] = 'encoder.layers'

    vocab_size: _Size = 49408
    hidden_size: _Size = 512
    intermediate_size: _Size = 2048
    num_hidden_layers: _Size = 12
    num_attention_heads: _Size = 8
    max_position_embeddings: _Size = 77
    hidden_act: str = 'quick_gelu'
    layer_norm_eps: float = 1e-5

    def sizes(self) -> dict[str, Any]:
        """The attributes of `vq_jax.models.CLIPTextEncoder`."""
        return {
            'vocabulary': self.vocab_size,
            'positions': self.max_position_embeddings,
            'width': self.hidden_size,
            'depth': self.num_hidden_layers,
            'heads': self.num_attention_heads,
            'mlp_width': self.intermediate_size,
            'mlp': self.hidden_act,
        }

    def misfit(self) -> str | None:
        """What of it is not computed here."""
        if self.hidden_act not in ('quick_gelu', 'gelu'):
            return f'hidden_act={self.hidden_act}'
        if self.hidden_size % self.num_attention_heads:
            return f'{self.num_attention_heads} heads of {self.hidden_size} numbers'
        return _of_epsilon('clip', self.layer_norm_eps)

    def table(self) -> list[Row]:
        """Its arrays and ours."""
        d, wide = self.hidden_size, self.intermediate_size
        positions = self.max_position_embeddings
        rows = [
            _plain('embeddings.token_embedding.weight', 'token.embedding', (self.vocab_size, d)),
            _plain('embeddings.position_embedding.weight', 'position', (positions, d)),
            *_norm('final_layer_norm', 'norm', d),
        ]
        for i in range(self.num_hidden_layers):
            theirs, ours = f'encoder.layers.{i}', f'block_{i}'
            rows += _norm(f'{theirs}.layer_norm1', f'{ours}.before_attention', d)
            rows += _norm(f'{theirs}.layer_norm2', f'{ours}.before_mlp', d)
            for a, b in {'q': 'query', 'k': 'key', 'v': 'value', 'out': 'attended'}.items():
                rows += _dense(f'{theirs}.self_attn.{a}_proj', f'{ours}.{b}', d, d)
            rows += _dense(f'{theirs}.mlp.fc1', f'{ours}.widen', d, wide)
            rows += _dense(f'{theirs}.mlp.fc2', f'{ours}.narrow', wide, d)
        return rows

    @staticmethod
    def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of a file by the names in the table, before which most files have `text_model`."""
        return {name.removeprefix('text_model.'): array for name, array in arrays.items()}


# By `model_type`; of a whole CLIP, what is said of its text encoder is in a part of its own.
_KINDS: dict[str, tuple[str, type[_T5] | type[_CLIP], str | None]] = {
    't5': ('t5', _T5, None),
    'mt5': ('t5', _T5, None),
    'clip_text_model': ('clip', _CLIP, None),
    'clip': ('clip', _CLIP, 'text_config'),
}


@dataclasses.dataclass(frozen=True)
class TextEncoderFiles:
    """What a folder holds of a text encoder.

    Attributes:
        kind: 't5' or 'clip'.
        sizes: attributes of the module that it is, `T5Encoder` or `CLIPTextEncoder` of `vq_jax.models`.
        params: of the module, by the way to each.
    """

    kind: str
    sizes: dict[str, Any]
    params: dict[Way, np.ndarray]


def read_text_encoder(folder: Path) -> TextEncoderFiles:
    """Reads a folder of `transformers`, all but the tokenizer.

    Raises:
        UserError: something is missing, cannot be read, or is of another network.
    """
    advice = 'give the folder of a T5 or CLIP as transformers keeps it'
    try:
        said = read_json(folder / _CONFIG, dict[str, Any], advice=advice)
    except FileNotFoundError as error:
        raise UserError(f'there is no {folder / _CONFIG}; {advice}.') from error
    model = said.get('model_type')
    if not isinstance(model, str) or model not in _KINDS:
        raise UserError(
            f'{folder} holds a model of the type {model!r}, and text encoders are read of the types '
            f'{", ".join(_KINDS)}; {advice}.'
        )
    kind, cls, part = _KINDS[model]
    where = f'{folder / _CONFIG} ({part})' if part else str(folder / _CONFIG)
    config = check_type(said.get(part) if part else said, cls, where=where, advice=advice)
    if misfit := config.misfit():
        raise UserError(f'the text encoder in {folder} has {misfit}, which is not computed here; {advice}.')
    arrays = cls.renamed(read_weights(_files(folder)).arrays)
    # Of too many a table could fill any memory, and of too few the vectors would be others.
    there = len({name.split('.')[2] for name in arrays if name.startswith(f'{cls.BLOCKS}.')})
    if there != (depth := config.sizes()['depth']):
        raise UserError(
            f'{where} says that there are {depth:,} blocks, and the weights beside it are of {there:,}; get '
            'the folder again.'
        )
    rows = config.table()
    wrong = [
        f'{name} {"is missing" if name not in arrays else f"has the shape {arrays[name].shape}, not {shape}"}'
        for row in rows
        for name, shape in row.shapes.items()
        if name not in arrays or arrays[name].shape != shape
    ]
    if wrong:
        more = f', and {len(wrong) - 3} more' if len(wrong) > 3 else ''
        raise UserError(
            f'the weights in {folder} are not those of its {_CONFIG}: {"; ".join(wrong[:3])}{more}; get the '
            'folder again.'
        )
    if odd := [name for row in rows for name in row.shapes if not np.isfinite(arrays[name]).all()]:
        raise UserError(f'the weights in {folder} are not finite, in {odd[0]}; get the folder again.')
    return TextEncoderFiles(kind, config.sizes(), ours_of(rows, arrays))


def _files(folder: Path) -> list[Path]:
    """The files of weights of a folder: one, or those that an index names."""
    for name in _FILES:
        if (folder / name).is_file():
            return [folder / name]
        try:
            index = read_json(folder / f'{name}.index.json', _Index, advice='get the folder again')
        except FileNotFoundError:
            continue
        names = sorted(set(index.weight_map.values()))
        if all(map(is_inside, names)):
            return [folder / name for name in names]
        raise UserError(f'{folder / name}.index.json names files outside of its folder; get it again.')
    raise UserError(f'there is neither {" nor ".join(_FILES)} in {folder}; get the folder again.')


@dataclasses.dataclass(frozen=True)
class _Index:
    weight_map: dict[str, str]


def _of_epsilon(kind: str, epsilon: float) -> str | None:
    return None if epsilon == _EPSILONS[kind] else f'normalisation with {epsilon}'


def _plain(theirs: str, ours: str, shape: tuple[int, ...]) -> Row:
    return Row(theirs, shape, tuple(ours.split('.')), tuple(range(len(shape))), shape)


def _kernel(theirs: str, ours: str, width: int, out: int) -> Row:
    way = (*ours.split('.'), 'kernel')
    return Row(f'{theirs}.weight', (out, width), way, (1, 0), (width, out))


def _dense(theirs: str, ours: str, width: int, out: int) -> list[Row]:
    return [_kernel(theirs, ours, width, out), _plain(f'{theirs}.bias', f'{ours}.bias', (out,))]


def _norm(theirs: str, ours: str, width: int) -> list[Row]:
    names = {'weight': 'scale', 'bias': 'bias'}
    return [_plain(f'{theirs}.{a}', f'{ours}.{b}', (width,)) for a, b in names.items()]
