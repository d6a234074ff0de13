# SPDX-License-Identifier: Apache-2.0
"""Reads the event files that test_run_files leaves, by the format's description alone, and by TensorBoard where it is installed.

    read_run_files.py TEST_RUN_FILES
"""

import glob
import math
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree


def crc32c(data):
    total = 0xffffffff
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (0x82f63b78 if total & 1 else 0)
    return total ^ 0xffffffff


def masked(data):
    total = crc32c(data)
    return ((total >> 15 | total << 17) + 0xa282ead8) & 0xffffffff


def records(data):
    """The contents of each TFRecord, checksums compared."""
    while data:
        length, front = struct.unpack_from('<QI', data)
        body = data[12:12 + length]
        back, = struct.unpack_from('<I', data, 12 + length)
        assert front == masked(data[:8]) and back == masked(body), 'a checksum is wrong'
        yield body
        data = data[16 + length:]


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """(field, value) of a protocol buffer."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size
        else:
            kind = {1: '<d', 5: '<f'}[key & 7]
            value, = struct.unpack_from(kind, data, at)
            at += struct.calcsize(kind)
        yield key >> 3, value


def scalars(event):
    for field, value in fields(dict(fields(event)).get(5, b'')):
        assert field == 1
        one = dict(fields(value))
        yield one[1].decode(), one[2]


class RunFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        subprocess.run([sys.argv[1], cls.folder.name], check=True)
        cls.files = []
        for path in sorted(glob.glob(cls.folder.name + '/events*')):
            with open(path, 'rb') as file:
                cls.files.append(list(records(file.read())))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_first_file(self):
        front, one, two = self.files[0]
        self.assertEqual(dict(fields(front)), {1: 1700000000.5, 3: b'brain.Event:2'})
        self.assertEqual(dict(fields(one))[1], 1700000001.25)
        self.assertEqual(dict(fields(one))[2], 1)
        self.assertEqual(list(scalars(one)), [('loss/total', 1.25)])
        self.assertEqual(dict(fields(two))[2], 300)
        values = dict(scalars(two))
        self.assertEqual(sorted(values), ['epoch é', 'loss/total', 'nan'])
        self.assertEqual(values['epoch é'], 3)
        self.assertTrue(math.isnan(values['nan']))

    def test_going_on(self):
        front, start, one = self.files[1]
        self.assertEqual(dict(fields(front))[3], b'brain.Event:2')
        self.assertEqual(dict(fields(start)), {1: 1700000005.0, 2: 200, 7: b'\x08\x01'})
        self.assertEqual(dict(fields(one))[2], 2 ** 63 - 1)

    def test_plots_are_xml(self):
        for name in 'curves', 'bars':
            root = xml.etree.ElementTree.parse(f'{self.folder.name}/{name}.svg').getroot()
            self.assertEqual(root.tag, '{http://www.w3.org/2000/svg}svg')

    def test_tensorboard_reads_them(self):
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        except ImportError as missing:
            self.skipTest(str(missing))
        read = EventAccumulator(self.folder.name)
        read.Reload()
        self.assertEqual([(event.step, event.value) for event in read.Scalars('loss/total')], [(1, 1.25), (2 ** 63 - 1, 1.25)])


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
