# SPDX-License-Identifier: Apache-2.0
"""The tree keeps to the picture, and check.py sees each kind of violation when one is planted in a small tree."""

import os
import subprocess
import sys
import tempfile
import unittest

import check

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = '| `base/` | – | x |\n| `match/` | base | x |\n| `kd/` | base, match | x |\n| `backend/` | base | x |\n'
CLEAN = {'docs/architecture.md': TABLE,
         'libdetrdistill/base/error.h': '',
         'libdetrdistill/kd/kd.h': '',
         'libdetrdistill/match/match.c': '#include "base/error.h"\n#include <math.h>\nint f(void)\n{\n    x->exit(1); /* abort() */\n}\n'}


def write(root, files):
    for path, text in files.items():
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), 'w', encoding='utf-8') as file:
            file.write(text)


class Tree(unittest.TestCase):
    def test_this_repository(self):
        self.assertEqual(check.check(os.path.join(HERE, '..', '..')), [])

    def test_table_has_every_layer(self):
        layers = check.read_layers(os.path.join(HERE, '..', '..'))
        self.assertEqual(layers['tensor'], {'base'})
        self.assertEqual(layers['kd'], {'base', 'tensor', 'backend', 'tape', 'nn', 'models', 'formats', 'match'})


class Planted(unittest.TestCase):
    def violations(self, planted):
        """What check says about the clean little tree with these files added."""
        with tempfile.TemporaryDirectory() as root:
            write(root, {**CLEAN, **planted})
            return check.check(root)

    def expect(self, path, text, what):
        found = self.violations({path: text})
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(path + ':'), found)
        self.assertIn(what, found[0])

    def test_clean_tree(self):
        self.assertEqual(self.violations({}), [])

    def test_include_upwards(self):
        self.expect('libdetrdistill/match/up.c', '\n#include "kd/kd.h"\n', 'kd is not below it')

    def test_include_upwards_by_relative_path(self):
        self.expect('libdetrdistill/match/up.c', '#include "../kd/kd.h"\n', 'kd is not below it')

    def test_kernel_sees_the_core(self):
        self.expect('libdetrdistill/backend/cpu/k.c', '#include <detrdistill/distiller.h>\n', 'kernel folder')
        self.expect('libdetrdistill/backend/cpu/k.c', '#include "match/match.c"\n', 'match is not below it')

    def test_folder_without_a_row(self):
        self.expect('libdetrdistill/new/x.c', '\n', 'no row')

    def test_example_sees_the_inside(self):
        self.expect('examples/x.c', '#include "base/error.h"\n', 'public headers')

    def test_banned_calls(self):
        for call in ('abort()', 'printf("x")', 'strcpy(a, b)', 'assert(x)', 'rand()', 'setlocale(0, "")', 'gets(x)', 'strtod(x, 0)'):
            self.expect('libdetrdistill/match/x.c', f'int f(void)\n{{\n    {call};\n}}\n', call.split('(')[0] + '()')

    def test_memory_has_one_door(self):
        self.expect('libdetrdistill/match/x.c', 'int f(void)\n{\n    p = malloc(1);\n}\n', 'malloc()')
        self.assertEqual(self.violations({'libdetrdistill/base/alloc.c': 'int f(void)\n{\n    p = malloc(1);\n}\n'}), [])

    def test_lengths(self):
        self.expect('libdetrdistill/match/x.c', 'int f(void)\n{\n' + '    x++;\n' * 79 + '}\n', 'a function of 81 lines')
        self.expect('libdetrdistill/match/x.c', '\n' * 901, 'the file has 901 lines')

    def test_program(self):
        """The status is what ./dev lint goes by."""
        def status(root):
            return subprocess.run([sys.executable, os.path.join(HERE, 'check.py'), root], stdout=subprocess.DEVNULL).returncode
        with tempfile.TemporaryDirectory() as root:
            write(root, CLEAN)
            self.assertEqual(status(root), 0)
            write(root, {'libdetrdistill/match/x.c': '#include "kd/kd.h"\n'})
            self.assertEqual(status(root), 1)


if __name__ == '__main__':
    unittest.main(verbosity=2)
