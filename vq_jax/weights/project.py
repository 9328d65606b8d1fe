"""What a project of others is: a table of its arrays, and the config by which our network is theirs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vq_jax.errors import UserError
from vq_jax.spec import Spec

# What the published ones of images are evaluated on.
IMAGENET = {'data.name': 'imagenet2012', 'data.eval_split': 'validation', 'data.image_size': 256}
Way = tuple[str, ...]  # to an array among the variables of our model


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """An array there and here.

    Attributes:
        theirs: its name there.
        shape: the one that it has there; of an array with several of ours in it, that of all of them.
        ours: the way to it among the variables of our model.
        axes: of theirs, in our order.
        ours_shape: the one that it has here, which may have axes of size 1 more or less.
        part: which part it is along the first axis of theirs.
        parts: in how many equal ones that is divided.
        span: from where and to where along that axis it is, if parts are not equal; other rows are the rest.
        orders: which indices of theirs, along axes of them, ours are; what of theirs is not among them is
            of no use, and is written as zeros.
        sign: what theirs are multiplied by, 1 or -1.
        within: an axis of ours, and where along it this is, from and to; the rest is other rows, or zeros.
        copied: theirs is in another row too, by which it is written.
    """

    theirs: str
    shape: tuple[int, ...]
    ours: Way
    axes: tuple[int, ...]
    ours_shape: tuple[int, ...]
    part: int = 0
    parts: int = 1
    orders: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    sign: int = 1
    within: tuple[int, int, int] | None = None
    copied: bool = False
    span: tuple[int, int] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays there."""
        return {self.theirs: self.shape}

    def read(self, theirs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Our array, as far as it is in this row, of those there."""
        return self.to_ours(theirs[self.theirs])

    @property
    def box(self) -> tuple[slice, ...]:
        """Where this is in our array."""
        if self.within is None:
            return ()
        axis, start, stop = self.within
        return (*[slice(None)] * axis, slice(start, stop))

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """An array of theirs as it is here, float32, as far as it is in this row."""
        part = array[slice(*self._span)]
        for axis, order in self.orders.items():
            part = part.take(order, axis)
        ours = np.ascontiguousarray(part.transpose(self.axes), np.float32).reshape(self._box_shape)
        return ours if self.sign == 1 else -ours

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        """An array of ours, as far as it is in this row, as it is there, where it is one part of several."""
        start, stop = self._span
        whole = (stop - start, *self.shape[1:])
        shape = [len(self.orders.get(axis, range(size))) for axis, size in enumerate(whole)]
        transposed = array.reshape([shape[axis] for axis in self.axes])
        part = np.ascontiguousarray(transposed.transpose(np.argsort(self.axes)))
        part = part if self.sign == 1 else -part
        for axis, order in self.orders.items():
            found = np.zeros([*part.shape[:axis], whole[axis], *part.shape[axis + 1 :]], part.dtype)
            found[(*[slice(None)] * axis, order)] = part
            part = found
        return part

    @property
    def _span(self) -> tuple[int, int]:
        if self.span is not None:
            return self.span
        size = self.shape[0] // self.parts
        return self.part * size, (self.part + 1) * size

    @property
    def _box_shape(self) -> tuple[int, ...]:
        shape = list(self.ours_shape)
        if self.within is not None:
            axis, start, stop = self.within
            shape[axis] = stop - start
        return tuple(shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Folded:
    """Several arrays there that are one here, of which others come back that mean the same.

    Attributes:
        shapes: of the arrays there, by their names; of those at the end that `unfold` does not give, other
            rows are.
        ours: the way to it among the variables of our model.
        ours_shape: the one that it has here.
        fold: of theirs, ours.
        unfold: of ours, theirs.
    """

    shapes: Mapping[str, tuple[int, ...]]
    ours: Way
    ours_shape: tuple[int, ...]
    fold: Callable[..., np.ndarray]
    unfold: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    within: None = None

    def read(self, theirs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Our array, float32, of those there."""
        folded = self.fold(*(theirs[name] for name in self.shapes))
        return np.ascontiguousarray(folded, np.float32)

    def write(self, ours: np.ndarray) -> dict[str, np.ndarray]:
        """Those there."""
        parts = map(np.ascontiguousarray, self.unfold(ours))
        return dict(zip(self.shapes, parts, strict=False))


def ours_of(rows: Sequence[Row | Folded], theirs: Mapping[str, np.ndarray]) -> dict[Way, np.ndarray]:
    """Our arrays by the way to them, of those of a project by their names.

    Raises:
        UserError: arrays there that are all one of ours differ.
    """
    ours: dict[Way, np.ndarray] = {}
    for row in rows:
        found = row.read(theirs)
        if row.within is None:
            known = ours.setdefault(row.ours, found)
            if known is not found and not np.array_equal(known, found):
                raise UserError(
                    f'{next(iter(row.shapes))} differs from other arrays there that are one in vq_jax, '
                    f'{".".join(row.ours)}; it cannot be this model.'
                )
        else:
            ours.setdefault(row.ours, np.zeros(row.ours_shape, np.float32))[row.box] = found
    return ours


def theirs_of(rows: Sequence[Row | Folded], ours: Mapping[Way, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a project, of ours by the way to them."""
    parts: dict[str, list[np.ndarray]] = {}
    for row in rows:  # in the order of the parts
        if isinstance(row, Folded):
            parts |= {name: [array] for name, array in row.write(np.asarray(ours[row.ours])).items()}
        elif not row.copied:
            found = np.asarray(ours[row.ours])[row.box]
            parts.setdefault(row.theirs, []).append(row.to_theirs(found))
    return {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in parts.items()}


def renamed(arrays: Mapping[str, np.ndarray], former: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays by the names that they have now, of names whose last layer was called something else."""

    def now(name: str) -> str:
        before, *layer = name.rsplit('.', 2)
        if len(layer) < 2 or layer[0] not in former:
            return name
        other = f'{before}.{former[layer[0]]}.{layer[1]}'
        return name if other in arrays else other

    return {now(name): array for name, array in arrays.items()}


def stated(config: Mapping[str, Any], key: str) -> Any:
    """What a config says; raises `UserError` if that is nothing."""
    if config[key] is None:
        raise UserError(f'nothing says what {key} of the model was; give it, by --override={key}=N.')
    return config[key]


@dataclasses.dataclass(frozen=True)
class Published:
    """A model that was published.

    Attributes:
        name: of the model.
        sizes: values of its project's sizes by which it is known from the others.
        config: what of our config its training or its data say beside the network.
        facts: about it, for people, such as what was published of its results.
    """

    name: str
    sizes: Mapping[str, Any]
    config: Mapping[str, Any]
    facts: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """A project whose checkpoints can be read and written; a subclass knows one network of ours.

    Sizes are those of a model, as far as its arrays say; a config has dotted keys.

    Attributes:
        name: by which commands know it.
        title: for people.
        source: the address of its code.
        licence: of its code.
        roots: what the names of arrays may begin with in a file, the first that is there counts.
        section: the dictionary in which a written file of PyTorch or Flax has them; empty for none.
        unread: beginnings of the names of arrays that inference does not need.
        settings: what `config.json` says of a model of such sizes and config, where its models are folders.
        said: what such a file says of our config that arrays do not.
        published: models.
        defaults: what the config of a converted run says that its users may change.
        TASK: of our runs of it.
        KIND: of examples.
        BUILT_ON: the section of the config that names the run that it is built on, and what that is; None if
            it stands alone.
        UNSAID: keys of the network that no array says; where nothing is published they must be given.
    """

    TASK: ClassVar[str]
    KIND: ClassVar[str] = 'image'
    BUILT_ON: ClassVar[tuple[str, str] | None] = None
    UNSAID: ClassVar[tuple[str, ...]] = ()

    name: str
    title: str
    source: str
    licence: str
    roots: tuple[str, ...]
    section: str = ''
    unread: tuple[str, ...] = ()
    settings: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    said: Callable[[Path], dict[str, Any]] | None = None
    published: tuple[Published, ...] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def renamed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of a file by the names that the project has for them now."""
        return dict(arrays)

    def root(self, arrays: Mapping[str, np.ndarray]) -> str | None:
        """What the names of a model of this project begin with among others; None if there is none."""
        found = (root for root in self.roots if all(f'{root}{name}' in arrays for name in self.marks()))
        return next(found, None)

    def marks(self) -> tuple[str, ...]:
        """Names that all models of the project have, and models of others do not have together."""
        raise NotImplementedError

    def sizes(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The sizes of a model, by the shapes of its arrays without their root.

        Raises:
            UserError: an array that says a size is missing, or has other axes.
        """
        raise NotImplementedError

    def sizes_of(
        self, config: Mapping[str, Any], shapes: Mapping[Way, tuple[int, ...]], grid: tuple[int, ...]
    ) -> Any:
        """The sizes of a model of ours, if it is one of these.

        Args:
            config: of its run.
            shapes: of its arrays, by the way to them.
            grid: of the codes or latents that it learns; of an autoencoder that of examples.
        """
        raise NotImplementedError

    def config(self, sizes: Any) -> dict[str, Any]:
        """What our config must say for our network to be theirs.

        Raises:
            UserError: no config makes ours that network.
        """
        raise NotImplementedError

    def given(self, sizes: Any) -> dict[str, Any]:
        """What else the config of a converted run must say."""
        return {}

    def spec(self, config: Mapping[str, Any]) -> Spec:
        """What the examples of a converted run are; raises `UserError` if nothing says how large."""
        size = stated(config, 'data.image_size')
        return Spec('image', (size, size, config['data.channels']))

    def misfits(self, config: Mapping[str, Any]) -> list[str]:
        """Why a model with the config that `config` returns is none of this project all the same."""
        return []

    def check_grid(self, sizes: Any, grid: tuple[int, ...]) -> None:
        """Raises `UserError` unless codes or latents of such a grid are what a model learned."""

    def num_classes(self, sizes: Any, config: Mapping[str, Any]) -> int:
        """How many classes a model is conditioned on."""
        return 0

    def table(self, sizes: Any, config: Mapping[str, Any]) -> list[Row | Folded]:
        """All arrays of a model whose sizes, and whose config here, are given."""
        raise NotImplementedError

    def beside(self, sizes: Any, config: Mapping[str, Any]) -> dict[Way, np.ndarray]:
        """Arrays of ours that there are none of there, which must be so."""
        return {}

    def constants(self, sizes: Any, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays that models have there and ours do not, which are written so, and must be so to be read."""
        return {}

    def known_as(self, sizes: Any) -> Published | None:
        """The published model of these sizes, if there is one."""
        for one in self.published:
            if all(getattr(sizes, name) == value for name, value in one.sizes.items()):
                return one
        return None

    def size(self, arrays: Mapping[str, np.ndarray], name: str, axis: int, axes: int) -> int:
        """The size of an axis of an array of so many axes; `UserError` if there is none, or it is 0."""
        shape = arrays[name].shape if name in arrays else None
        if shape is None or len(shape) != axes or not shape[axis]:
            what = 'there is none' if shape is None else f'has the shape {shape}'
            raise UserError(f'{name}, by which the size of a model of {self.title} is known, {what}.')
        return shape[axis]
