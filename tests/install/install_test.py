# SPDX-License-Identifier: Apache-2.0
"""Installs the build into an empty prefix, builds every example from it as a host would, by pkg-config and by CMake, and runs
the kd_step examples of all languages on one case: they print the same total to six digits.

DD_BUILD is the build folder."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ['DD_BUILD']
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
EXAMPLES = os.path.join(ROOT, 'examples')
CASE = os.path.join(ROOT, 'tests', 'data', 'kd_case.safetensors')
WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Werror', '-O2']


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def run(*command, **options):
    """What a command that must succeed printed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise AssertionError(f'{" ".join(command)} ended with {done.returncode}:\n{done.stdout}')
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        stage = os.path.join(cls.folder, 'stage')
        run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', stage)
        # The files are moved to a prefix that the build knew nothing of.
        cls.prefix = os.path.join(cls.folder, 'prefix')
        umbrella, = glob.glob(stage + '/**/include/detrdistill/detrdistill.h', recursive=True)
        shutil.move(os.path.dirname(os.path.dirname(os.path.dirname(umbrella))), cls.prefix)
        pc, = glob.glob(cls.prefix + '/**/detrdistill.pc', recursive=True)
        cls.libdir = os.path.dirname(os.path.dirname(pc))
        cls.environment = {**os.environ, 'PKG_CONFIG_PATH': os.path.dirname(pc), 'LD_LIBRARY_PATH': cls.libdir}
        cls.totals = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def pkg_config(self, *words):
        return run('pkg-config', '--define-variable=prefix=' + self.prefix, *words, 'detrdistill', env=self.environment).split()

    def build(self, name, sources, compiler, *words):
        program = os.path.join(self.folder, name)
        run(compiler, *WARNINGS, *sources, *self.pkg_config('--cflags', '--libs'), *words, '-o', program, env=self.environment)
        return program

    def total(self, *command, **variables):
        """The number that a kd_step example prints."""
        output = run(*command, CASE, env={**self.environment, **variables})
        return float(re.search(r'^total (\S+)$', output, re.M).group(1))

    def reference(self):
        """The total as the C example prints it; every other language is held against it."""
        return self.total(self.build('kd_step', [EXAMPLES + '/kd_step.c'], 'cc', '-std=c11'))

    def expect_reference(self, total):
        self.assertEqual(f'{total:.6g}', f'{self.reference():.6g}')

    def test_files(self):
        there = {os.path.relpath(path, self.prefix) for path in glob.glob(self.prefix + '/**', recursive=True)}
        libdir = os.path.relpath(self.libdir, self.prefix)
        for path in [f'{libdir}/libdetrdistill.so', f'{libdir}/libdetrdistill.so.0', f'{libdir}/pkgconfig/detrdistill.pc',
                     f'{libdir}/cmake/detrdistill/detrdistill-config.cmake', f'{libdir}/cmake/detrdistill/detrdistill-config-version.cmake',
                     f'{libdir}/detrdistill/libdetrdistill-cpu.so', 'include/detrdistill/detrdistill.h', 'include/detrdistill/sys/ops.def']:
            self.assertIn(path, there)
        for header in glob.glob(ROOT + '/include/detrdistill/**/*.*', recursive=True):
            if not header.endswith('meson.build'):
                self.assertIn(os.path.relpath(header, ROOT), there)

    def test_pkg_config_version(self):
        self.assertEqual(self.pkg_config('--modversion'), [re.search(r"version: '([\d.]+)'", read(ROOT + '/meson.build')).group(1)])

    def test_c(self):
        """The total is the one that stands in the case's metadata."""
        with open(CASE, 'rb') as file:
            header = file.read(8 + int.from_bytes(file.read(8), 'little')).decode('utf-8', 'replace')
        stored = float(re.search(r'"total":"([^"]+)"', header).group(1))
        self.assertAlmostEqual(self.reference() / stored, 1, delta=5e-6)

    def test_cxx(self):
        self.expect_reference(self.total(self.build('kd_step_cpp', [EXAMPLES + '/kd_step.cpp'], 'c++', '-std=c++17')))

    def test_cmake(self):
        for expected, version in ((True, '0.1'), (True, '0.1.0'), (False, '0.2'), (False, '1')):
            source = os.path.join(self.folder, 'cmake-' + version)
            os.makedirs(source)
            with open(source + '/CMakeLists.txt', 'w', encoding='utf-8') as file:
                file.write(read(HERE + '/CMakeLists.txt').replace('detrdistill 0.1 ', f'detrdistill {version} '))
            configure = ['cmake', '-S', source, '-B', source + '/build', '-DCMAKE_PREFIX_PATH=' + self.prefix, '-DEXAMPLES=' + EXAMPLES]
            if not expected:
                self.assertNotEqual(subprocess.run(configure, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode, 0, version)
                continue
            run(*configure)
            run('cmake', '--build', source + '/build')
            for program in ('kd_step_c', 'kd_step_cpp'):
                self.expect_reference(self.total(os.path.join(source, 'build', program)))

    def test_journey(self):
        """The larger example is built from the installed copy, too."""
        sources = sorted(glob.glob(EXAMPLES + '/distil_outputs/*.c'))
        words = run('pkg-config', '--cflags', '--libs', 'json-c').split()
        program = self.build('distil_outputs', sources, 'cc', '-std=gnu11', '-D_GNU_SOURCE', '-Wno-missing-field-initializers', *words, '-lm')
        self.assertIn('distil_outputs', run(program, '--help', env=self.environment))

    def test_lua(self):
        lua = os.path.join(ROOT, 'bindings', 'lua')
        self.expect_reference(self.total('luajit', EXAMPLES + '/kd_step.lua', LUA_PATH=f'{lua}/?.lua;{lua}/?/init.lua;;',
                                         DETRDISTILL_LIBRARY=self.libdir + '/libdetrdistill.so.0'))

    def test_python(self):
        if subprocess.run([sys.executable, '-c', 'import torch'], stderr=subprocess.DEVNULL).returncode:
            self.skipTest(f'torch is not installed for {sys.executable} (./dev setup python)')
        self.expect_reference(self.total(sys.executable, EXAMPLES + '/kd_step.py', PYTHONPATH=os.path.join(ROOT, 'bindings', 'python'),
                                         DETRDISTILL_LIBRARY=self.libdir + '/libdetrdistill.so.0'))


if __name__ == '__main__':
    unittest.main(verbosity=2)
