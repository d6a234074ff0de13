# SPDX-License-Identifier: Apache-2.0
"""What the Python package safetensors writes is read by the library, and the other way round, bit for bit.

    exchange_with_python.py COPY_TENSORFILE
"""

import os
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)


class Exchange(unittest.TestCase):
    def test_there_and_back(self):
        random = numpy.random.default_rng(7)
        sent = {f'{kind}.{n}': random.integers(0, 100, shape).astype(kind)
                for kind in ['float32', 'float64', 'float16', 'int32', 'int64', 'uint8']
                for n, shape in enumerate([(3, 5), (1,), (0, 4), (2, 1, 7, 3)])}
        sent['é "quoted" \\ name'] = numpy.arange(3, dtype='uint8')
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = os.path.join(folder, 'theirs'), os.path.join(folder, 'ours')
            save_file(sent, theirs, metadata={'made by': 'numpy \n "é"'})
            subprocess.run([sys.argv[1], theirs, ours], check=True)
            received = load_file(ours)
            with safe_open(ours, 'numpy') as file:
                self.assertEqual(file.metadata(), {'made by': 'numpy \n "é"'})
        self.assertEqual(set(received), set(sent))
        for name, array in sent.items():
            self.assertEqual((received[name].dtype, received[name].shape), (array.dtype, array.shape), name)
            self.assertEqual(received[name].tobytes(), array.tobytes(), name)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
