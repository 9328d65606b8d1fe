"""What the text of a compiled program says: HLO, the language of XLA."""

import dataclasses
import math
import re

# Kinds of collectives, and whether what a device gets of one is more than what it gives.
_GROWS = {
    'all-gather': True,
    'all-reduce': False,
    'all-to-all': False,
    'collective-broadcast': False,
    'collective-permute': False,
    'ragged-all-to-all': False,
    'reduce-scatter': False,
}
_COMPUTATION = re.compile(r'(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$')
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\](?:\{([\d,]*):?([^}]*)\})?')
_NAME = re.compile(r'%([\w.-]+)')
_CALLED = re.compile(
    r'\b(condition|body|calls|to_apply|true_computation|false_computation|branch_computations)='
    r'(?:%?([\w.-]+)|\{([^}]*)\})'
)
# What runs a computation as often as it says; others, such as fusions, are one operation with what they call.
_CONTROL = {'while', 'conditional', 'call', 'async-start'}
# What moves nothing itself.
_FREE = {
    *_CONTROL,
    'after-all',
    'async-done',
    'async-update',
    'bitcast',
    'constant',
    'get-tuple-element',
    'parameter',
    'partition-id',
    'replica-id',
    'tuple',
}
_SLICES = {'dynamic-slice', 'gather', 'slice'}
_COPIES = {'copy', 'slice'}  # whose start and done are one operation


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a program.

    Attributes:
        kind: such as 'all-reduce'.
        count: how many each device takes part in.
        bytes: what they work on, on each device: of an all-gather what it gets, of all others what it gives.
    """

    kind: str
    count: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
    type: str  # of the result
    operation: str
    operands: list[str]
    called: dict[str, list[str]]
    text: str


def collectives(text: str) -> tuple[Collective, ...]:
    """The collectives of a compiled program, by kind.

    Those in a loop count as often as it runs, where that is known beforehand. One that is done in pieces
    beside other work, each of which stands in the text, counts once.

    Args:
        text: as `jax.stages.Compiled.as_text` returns it.
    """
    computations, entry = _read(text)
    found = {}
    for computation, times in _times(computations, entry).items():
        for name, instruction in computations[computation].items():
            kind = instruction.operation.removesuffix('-start')
            if kind in _GROWS:
                channel = re.search(r'channel_id=\d+', instruction.text)  # of all pieces
                moved = _moved(kind, instruction, computations[computation])
                found[channel[0] if channel else (computation, name)] = kind, times, times * moved
    totals: dict[str, tuple[int, int]] = {}
    for kind, count, moved in found.values():
        counts, sizes = totals.get(kind, (0, 0))
        totals[kind] = counts + count, sizes + moved
    return tuple(Collective(kind, *total) for kind, total in sorted(totals.items()))


def loops(text: str) -> tuple[int, ...]:
    """How often the loops of a compiled program run, where that is more than once and known beforehand."""
    computations, entry = _read(text)
    runs = (
        _runs(computations, instruction)
        for name in _times(computations, entry)
        for instruction in computations[name].values()
        if instruction.operation == 'while'
    )
    return tuple(sorted(n for n in runs if n > 1))


def hbm_bytes(text: str) -> int:
    """The bytes that a compiled program for a TPU reads and writes in the chip's HBM.

    Loops count as often as they run, where that is known beforehand, and otherwise once.
    Arrays that lie in another memory, such as vector memory, count nothing, and others with what fills up
    their tiles. Of an array of which an operation reads slices alone, these count, and of one that is updated
    in place what is new. Each operation is taken to read what it is given once.

    Args:
        text: as `jax.stages.Compiled.as_text` returns it.
    """
    computations, entry = _read(text)
    return sum(
        times * _through_hbm(computations, computations[name], instruction)
        for name, times in _times(computations, entry, inside_operations=False).items()
        for instruction in computations[name].values()
    )


def repeated_flops(text: str) -> int:
    """The operations of matrix products and convolutions in the runs of a loop after its first.

    The compiler's own count has each loop once. As there, a product with what is padding is no operation, and
    a multiplication and an addition are two.

    Args:
        text: as `jax.stages.Compiled.as_text` returns it.
    """
    computations, entry = _read(text)
    once = _times(computations, entry, repeated=False)
    return sum(
        (times - once[name]) * _flops(instruction, computations[name])
        for name, times in _times(computations, entry).items()
        if times > once[name]
        for instruction in computations[name].values()
    )


def _read(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """The instructions of each computation by name, and the computation that the program begins with."""
    computations, entry, current = {}, '', {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            operands, attributes = _split_operands(found[4])
            called = {
                key: _NAME.findall(several) if several else [one]
                for key, one, several in _CALLED.findall(attributes)
            }
            current[found[1]] = _Instruction(found[2], found[3], _NAME.findall(operands), called, line)
    return computations, entry


def _split_operands(rest: str) -> tuple[str, str]:
    """What stands before the parenthesis that ends the operands, and what comes after it."""
    depth = 1
    for i, character in enumerate(rest):
        depth += (character == '(') - (character == ')')
        if not depth:
            return rest[:i], rest[i:]
    return rest, ''


def _times(
    computations: dict[str, dict[str, _Instruction]],
    entry: str,
    *,
    repeated: bool = True,
    inside_operations: bool = True,
) -> dict[str, int]:
    """How often each computation runs that is reached from the entry.

    Args:
        computations: see `_read`.
        entry: where the program begins.
        repeated: whether what a loop does counts as often as it runs.
        inside_operations: whether to go into operations that are one for a chip, such as fusions.
    """
    times: dict[str, int] = {}

    def visit(name: str, n: int) -> None:
        times[name] = times.get(name, 0) + n
        for instruction in computations[name].values():
            if instruction.operation in ('async-update', 'async-done'):  # they name what `async-start` runs
                continue
            if not inside_operations and instruction.operation not in _CONTROL:
                continue
            runs = _runs(computations, instruction) if repeated else 1
            for names in instruction.called.values():
                for called in names:
                    visit(called, n * runs)

    visit(entry, 1)
    return times


def _runs(computations: dict[str, dict[str, _Instruction]], instruction: _Instruction) -> int:
    """How often a loop runs; 1 where that is not known.

    A counter begins at 0, the body adds to it, and the condition compares it with a constant.
    """
    if instruction.operation != 'while':
        return 1
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.text):
        return int(known[1])
    (condition,), (body,) = instruction.called['condition'], instruction.called['body']
    of_condition = computations[condition]
    compared = _root(of_condition)
    if 'direction=LT' not in compared.text or compared.operation != 'compare':
        return 1
    counter, limit = (of_condition[name] for name in compared.operands)
    number = _constant(limit)
    if number is None or counter.operation != 'get-tuple-element':
        return 1
    added = _added(computations[body], _index(counter))
    return -(-number // added) if added else 1


def _added(body: dict[str, _Instruction], index: int) -> int:
    """What the body of a loop adds to one of the numbers that it is given; 0 where that is not known."""
    root, total = _root(body), 0
    if root.operation != 'tuple':
        return 0
    instruction = body[root.operands[index]]
    while instruction.operation in ('add', 'copy'):
        operands = [body[name] for name in instruction.operands]
        total += sum(_constant(x) or 0 for x in operands)
        variable = [x for x in operands if _constant(x) is None]
        if len(variable) != 1:
            return 0
        (instruction,) = variable
    of_counter = instruction.operation == 'get-tuple-element' and _index(instruction) == index
    return total if of_counter else 0


def _index(instruction: _Instruction) -> int:
    """Which element of a tuple an instruction takes."""
    return int(re.search(r'index=(\d+)', instruction.text)[1])


def _constant(instruction: _Instruction) -> int | None:
    """The whole number that an instruction is, if it is one."""
    found = re.search(r' constant\((\d+)\)', instruction.text)
    return int(found[1]) if found else None


def _root(computation: dict[str, _Instruction]) -> _Instruction:
    """What a computation returns."""
    (root,) = (x for x in computation.values() if x.text.lstrip().startswith('ROOT'))
    return root


def _flops(instruction: _Instruction, others: dict[str, _Instruction]) -> int:
    """The operations of a matrix product or convolution, of which a TPU's program has only the latter."""
    if instruction.operation != 'convolution':
        return 0
    given, kernel = (_shape(others[name].type) for name in instruction.operands)
    labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.text)
    groups = re.search(r'(?:feature|batch)_group_count=(\d+)', instruction.text)
    of_kernel = [n for n, label in zip(kernel, labels[2], strict=True) if label in 'io']
    pairs = math.prod(of_kernel) * given[labels[1].index('b')]
    shape = _shape(instruction.type)
    spatial = sorted(set(labels[2]) - set('io'))
    for i, axis in enumerate(spatial):
        sizes = given[labels[1].index(axis)], shape[labels[3].index(axis)]
        pairs *= _taps(*sizes, _window(instruction.text, i))
    return 2 * pairs // (int(groups[1]) if groups and groups[0].startswith('batch') else 1)


def _window(text: str, axis: int) -> dict[str, tuple[int, ...]]:
    """What is said of one axis of the window of a convolution."""
    found = re.search(r'window=\{([^}]*)\}', text)[1]
    return {
        name: tuple(int(n) for n in values.split('x')[axis].split('_'))
        for name, values in re.findall(r'(\w+)=(\S+)', found)
    }


def _taps(given: int, out: int, window: dict[str, tuple[int, ...]]) -> int:
    """How many pairs of a place that is read and one that is written an axis has, without padding."""
    (stride,), (spread,), (apart,), (before, _) = (
        window.get(name, default)
        for name, default in (('stride', (1,)), ('lhs_dilate', (1,)), ('rhs_dilate', (1,)), ('pad', (0, 0)))
    )
    starts = (i * stride - before + k * apart for i in range(out) for k in range(window['size'][0]))
    return sum(0 <= at < given * spread and at % spread == 0 for at in starts)


def _moved(kind: str, instruction: _Instruction, others: dict[str, _Instruction]) -> int:
    given = sum(_size(others[name].type) for name in instruction.operands)
    if not _GROWS[kind]:
        return given
    # The result of the start of an asynchronous collective begins with what it is given.
    return _size(instruction.type) - (given if instruction.operation.endswith('-start') else 0)


def _through_hbm(
    computations: dict[str, dict[str, _Instruction]],
    others: dict[str, _Instruction],
    instruction: _Instruction,
) -> int:
    """Bytes that one instruction of a computation reads and writes there."""
    operation, operands = instruction.operation, [others[name] for name in instruction.operands]
    stem, _, stage = operation.rpartition('-')
    if operation in _FREE or (stage == 'start' and stem in _COPIES) or '"AllocateBuffer"' in instruction.text:
        return 0
    if stage == 'start' and stem in _GROWS:
        return sum(_hbm_size(operand.type) for operand in operands)
    written = _hbm_size(instruction.type)
    if stage == 'done' and stem in _GROWS:
        return written
    if stage == 'done' and stem in _COPIES:
        source = _hbm_size(others[operands[0].operands[0]].type)
        return written + (source if stem == 'copy' else min(source, _size(instruction.type)))

    if 'calls' in instruction.called:
        fused = computations[instruction.called['calls'][0]]
    else:
        fused = _alone(instruction, operands)
    numbers = {name: re.search(r'\bparameter\((\d+)\)', x.text) for name, x in fused.items()}
    parameters = {int(number[1]): name for name, number in numbers.items() if number}
    read = sum(min(_hbm_size(x.type), _read_of(fused, parameters[i])) for i, x in enumerate(operands))
    root = _root(fused)
    roots = [fused[name] for name in root.operands] if root.operation == 'tuple' else [root]
    arrays = [found[0] for found in _ARRAY.finditer(instruction.type)]
    if len(arrays) == len(roots):
        pairs = zip(arrays, roots, strict=True)
        written = sum(min(_hbm_size(array), _new_of(fused, root)) for array, root in pairs)
    return read + written


def _alone(instruction: _Instruction, operands: list[_Instruction]) -> dict[str, _Instruction]:
    """A fusion of one instruction."""
    parameters = {
        str(i): _Instruction(x.type, 'parameter', [], {}, f'parameter({i})') for i, x in enumerate(operands)
    }
    root = dataclasses.replace(instruction, operands=[*parameters], text=f'ROOT {instruction.text}')
    return {**parameters, 'root': root}


def _read_of(fused: dict[str, _Instruction], name: str) -> float:
    """At most so many bytes of an array are read by what a fusion does with it."""
    total = 0
    for other, user in fused.items():
        if name not in user.operands:
            continue
        if user.operation == 'bitcast':
            total += _read_of(fused, other)
        elif user.operation == 'dynamic-update-slice' and name not in user.operands[1:]:
            continue
        else:
            total += _size(user.type) if user.operation in _SLICES else math.inf
    return total


def _new_of(fused: dict[str, _Instruction], root: _Instruction) -> float:
    """At most so many bytes are written of what comes out of a fusion."""
    while root.operation == 'bitcast':
        root = fused[root.operands[0]]
    if root.operation == 'dynamic-update-slice':
        return _size(fused[root.operands[1]].type)
    return math.inf


def _shape(type_: str) -> list[int]:
    """The sizes of the axes of an array's type."""
    return [int(n) for n in _ARRAY.search(type_)[3].split(',') if n]


def _size(type_: str) -> int:
    """Bytes of the arrays of a type, such as 'f32[8,16]{1,0}' or a tuple of such."""
    total = 0
    for letters, digits, shape, _, _ in _ARRAY.findall(type_):
        bits = 8 if letters == 'pred' else int(digits or 0)
        total += math.prod(int(n) for n in shape.split(',') if n) * bits
    return total // 8


def _hbm_size(type_: str) -> int:
    """Bytes that the arrays of a type take of HBM, whose layout names no other memory, in whole tiles.

    In 'bf16[6,256,128]{2,0,1:T(8,128)(2,1)S(1)}' the last axis is the innermost, next to it is the first, and
    of these two 8 x 128 numbers are a tile; the memory is number 1.
    """
    total = 0
    for letters, digits, shape, order, rest in _ARRAY.findall(type_):
        if re.search(r'S\([1-9]', rest):
            continue
        sizes = [int(n) for n in shape.split(',') if n]
        tile = re.search(r'T\(([\d,]+)\)', rest)
        inner = [int(axis) for axis in order.split(',') if axis]
        for axis, n in zip(inner, reversed(tile[1].split(',') if tile else ()), strict=False):
            sizes[axis] = -(-sizes[axis] // int(n)) * int(n)
        total += math.prod(sizes) * (8 if letters == 'pred' else int(digits or 0))
    return total // 8
