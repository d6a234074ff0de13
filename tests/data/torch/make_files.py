# SPDX-License-Identifier: Apache-2.0
"""Writes the checkpoints of this folder, good ones with torch.save and hostile ones byte by byte; expected.safetensors has what
is to be read from each good one.

    make_files.py [FOLDER]
"""

import argparse
import os
import pickle
import struct
import sys
import zlib
from collections import OrderedDict

import numpy
import torch
from safetensors.torch import save_file

FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))


def tensors():
    base = torch.arange(24.).reshape(2, 3, 4)
    state = OrderedDict()
    state['f32'] = base
    state['f32.slice'] = base[1, 1:]  # the same storage, from an offset
    state['f32.turned'] = base.permute(2, 0, 1)
    state['f32.expanded'] = torch.tensor([[3.], [4.]]).expand(2, 5)
    state['parameter'] = torch.nn.Parameter(torch.tensor([1.5, -2.5]))
    state['f64'] = torch.linspace(0, 1, 5, dtype=torch.float64)
    state['f16'] = torch.linspace(0, 1, 5).half()
    state['bf16'] = torch.linspace(0, 1, 5).bfloat16()
    state['i32'] = torch.tensor([[1, -2]], dtype=torch.int32)
    state['i64'] = torch.tensor(1 << 40)  # no dimension
    state['u8'] = torch.tensor([0, 255], dtype=torch.uint8)
    state['bool'] = torch.tensor([True, False, True])
    state['empty'] = torch.empty(0, 4)
    state['é'] = torch.ones(1)
    return state


def checkpoint(state):
    """What a training program of mmdetection leaves, in small."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    return {'meta': {'epoch': 12, 'iter': 3 ** 50, 'config': 'a = 1\n' * 20, 'CLASSES': ('person', 'car'), 'mAP': numpy.float64(0.25),
                     'hooks': [None, True, {1, 2}, b'bytes', -1, 0.5, 70000, -70000, 1 << 33]},
            'state_dict': state, 'optimizer': optimizer.state_dict()}


def save(name, what, **options):
    torch.save(what, os.path.join(FOLDER, name), **options)


def save_good():
    state = tensors()
    save('plain.pth', state)
    save('plain_old.pth', state, _use_new_zipfile_serialization=False)
    save('plain_protocol4.pth', state, pickle_protocol=4)
    save('checkpoint.pth', checkpoint(state))
    save('checkpoint_old.pth', checkpoint(state), _use_new_zipfile_serialization=False)
    save('nested.pth', {'args': argparse.Namespace(lr=1.0), 'last_epoch': 3, 'ema': {'module': dict(state)}, 'model': {'x': 1}})
    torch.serialization.set_crc32_options(False)
    save('no_sums.pth', state)
    torch.serialization.set_crc32_options(True)
    expected = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    expected['i64'] = expected['i64'].reshape(1)
    expected['bool'] = expected['bool'].to(torch.uint8)
    save_file(expected, os.path.join(FOLDER, 'expected.safetensors'))
    save('refused_int8.pth', {'a': torch.ones(2, dtype=torch.int8)})
    save('refused_complex_old.pth', {'a': torch.ones(2, dtype=torch.complex64)}, _use_new_zipfile_serialization=False)
    save('refused_list.pth', [torch.ones(2)])


# ---- Hostile files: an archive, a pickle and an old file made by hand

def member(name, data):
    return struct.pack('<IHHHHHIIIHH', 0x04034b50, 0, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0) + name + data


def directory(entries):
    """entries: (name, place, data)"""
    return b''.join(struct.pack('<IHHHHHHIIIHHHHHII', 0x02014b50, 0, 0, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0, 0,
                                0, 0, 0, place) + name for name, place, data in entries)


def finish(body, entries):
    central = directory(entries)
    return body + central + struct.pack('<IHHHHIIH', 0x06054b50, 0, 0, len(entries), len(entries), len(central), len(body), 0)


def text(word):
    return b'X' + struct.pack('<I', len(word)) + word


def number(n):
    return b'\x8a\x08' + struct.pack('<q', n)


def tensor(key, elements, offset, shape, stride):
    sizes = [b'(' + b''.join(number(n) for n in of) + b't' for of in (shape, stride)]
    identity = b'(' + text(b'storage') + b'ctorch\nFloatStorage\n' + text(key) + text(b'cpu') + number(elements) + b'tQ'
    return b'ctorch._utils\n_rebuild_tensor_v2\n(' + identity + number(offset) + b''.join(sizes) + b'\x89}tR'


def tree(items):
    return b'\x80\x02}(' + b''.join(text(name) + value for name, value in items) + b'u.'


def old(body, keys=(), storages=b''):
    start = b''.join(pickle.dumps(what, 2) for what in (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}))
    return start + body + pickle.dumps(list(keys), 2) + storages


def archive(body, storages):
    entries, out = [], b''
    for name, data in [(b'a/data.pkl', body)] + [(b'a/data/' + key, data) for key, data in storages]:
        entries.append((name, len(out), data))
        out += member(name, data)
    return finish(out, entries)


def overlapping(count):
    """Each member holds all those after it."""
    entries, inner = [], bytes(64)
    for i in reversed(range(count)):
        name = b'a/data/%d' % i
        entries.append((name, len(inner), inner))
        inner = member(name, inner)
    body = tree((b'%d' % i, tensor(b'%d' % i, 1, 0, [1], [1])) for i in range(count))
    front = member(b'a/data.pkl', body)
    places = [(name, len(front) + len(inner) - (size + 30 + len(name)), data) for name, size, data in entries]
    return finish(front + inner, [(b'a/data.pkl', 0, body)] + places)


def hostile():
    four = struct.pack('<q4f', 4, 1, 2, 3, 4)
    one = [(b'0', bytes(16))]
    yield 'format_reach', archive(tree([(b'a', tensor(b'0', 4, 2, [3], [1]))]), one)
    yield 'format_stride', archive(tree([(b'a', tensor(b'0', 4, 0, [2, 2], [3, 1]))]), one)
    yield 'format_negative_stride', archive(tree([(b'a', tensor(b'0', 4, 3, [4], [-1]))]), one)
    yield 'format_negative_offset', archive(tree([(b'a', tensor(b'0', 4, -1, [4], [1]))]), one)
    yield 'format_wraps', archive(tree([(b'a', tensor(b'0', 4, 0, [3, 3], [1 << 62, 1 << 62]))]), one)
    yield 'limit_shape', archive(tree([(b'a', tensor(b'0', 4, 0, [1 << 40, 1 << 40], [0, 0]))]), one)
    yield 'limit_expanded', archive(tree([(b'a', tensor(b'0', 4, 0, [1 << 30], [0]))]), one)
    yield 'limit_expanded_often', archive(tree((b'%d' % i, tensor(b'0', 4, 0, [1 << 20], [0])) for i in range(40)), one)
    yield 'format_short_storage', archive(tree([(b'a', tensor(b'0', 5, 0, [5], [1]))]), one)
    yield 'format_no_storage', archive(tree([(b'a', tensor(b'1', 4, 0, [4], [1]))]), one)
    yield 'format_key_with_way', archive(tree([(b'a', tensor(b'../data.pkl', 4, 0, [4], [1]))]), one)
    yield 'format_overlap', overlapping(40)
    yield 'format_nine_dimensions', archive(tree([(b'a', tensor(b'0', 4, 0, [1] * 9, [1] * 9))]), one)
    yield 'format_twice', archive(tree([(b'a', tensor(b'0', 4, 0, [4], [1]))] * 2), one)
    yield 'format_name', archive(tree([(b'\xff', tensor(b'0', 4, 0, [4], [1]))]), one)
    yield 'format_name_nul', archive(tree([(b'a\0b', tensor(b'0', 4, 0, [4], [1]))]), one)
    yield 'format_no_tree', finish(member(b'a/other', b''), [(b'a/other', 0, b'')])
    yield 'format_old_no_storage', old(tree([(b'a', tensor(b'0', 4, 0, [4], [1]))]))
    yield 'format_old_two_sizes', old(tree([(b'a', tensor(b'0', 4, 0, [4], [1])), (b'b', tensor(b'0', 3, 0, [3], [1]))]), ['0'], four)
    yield 'format_old_twice', old(tree([(b'a', tensor(b'0', 4, 0, [4], [1]))]), ['0', '0'], four + four)
    yield 'format_old_count', old(tree([(b'a', tensor(b'0', 1 << 62, 0, [4], [1]))]), ['0'], struct.pack('<q', 1 << 62) + bytes(16))
    yield 'format_old_unused', old(tree([]), ['0'], four)
    yield 'found_old_good', old(tree([(b'a', tensor(b'0', 4, 0, [4], [1]))]), ['0'], four)
    one_tensor = tensor(b'0', 4, 0, [4], [1])
    yield 'found_python2', old(b'\x80\x02ccollections\nOrderedDict\n](](U\x01a' + one_tensor + b'eU\x01be\x85R.', ['0'], four)
    yield 'found_parameter', old(tree([(b'a', b'ctorch._utils\n_rebuild_parameter\n' + one_tensor + b'\x88}\x87R')]), ['0'], four)
    arguments = one_tensor.split(b'\n', 2)[2][:-1]  # without the function and the call
    yield 'found_subclass', old(tree([(b'a', b'ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n'
                                       b'cmine\nTensor\n' + arguments + b'}tR')]), ['0'], four)
    yield 'found_module_beside', old(tree([(b'state_dict', b'}' + text(b'a') + one_tensor + b's'),
                                           (b'model', b'cmine\nModel\n)\x81}(' + text(b'w') + one_tensor + b'ub')]), ['0'], four)
    yield 'none_wrapped_often', old(tree([(b'a', b'ctorch._utils\n_rebuild_parameter\n' * 9 + one_tensor + b'\x85R' * 9)]), ['0'], four)
    yield 'none_nested', old(b'\x80\x02' + b'](' * 3000 + b'e' * 3000 + b'.')
    yield 'none_marks', old(b'\x80\x02N' + b'(' * 3000 + b'1' * 3000 + b'.')
    yield 'none_bomb', old(b'\x80\x02]q\x00' + b'(' + b'h\x00' * 1000 + b'e' + b'(' + b'h\x00' * 1000 + b'e.')
    yield 'none_itself', old(b'\x80\x02}q\x00' + text(b'state_dict') + b'h\x00s.')
    yield 'none_tensor_of_itself', old(b'\x80\x02]q\x00ctorch._utils\n_rebuild_parameter\nh\x00Rq\x01ah\x01.')
    yield 'none_system', old(b'\x80\x02cposix\nsystem\n' + text(b'touch /tmp/dd-pickle-was-run') + b'\x85R.')
    yield 'format_memo', old(b'\x80\x02Nr\xff\xff\xff\x7f.')
    yield 'format_recall', old(b'\x80\x02h\x05.')
    yield 'format_underflow', old(b'\x80\x02R.')
    yield 'format_opcode', old(b'\x80\x02I1\n.')
    yield 'format_text', old(b'\x80\x02X\xff\xff\xff\xffabc.')
    yield 'format_long', old(b'\x80\x02\x8b\xff\xff\xff\xff.')
    yield 'format_odd_dict', old(b'\x80\x02(NNNd.')


def main():
    save_good()
    for name, data in hostile():
        with open(os.path.join(FOLDER, f'hostile_{name}.pth'), 'wb') as file:
            file.write(data)


if __name__ == '__main__':
    main()
