# SPDX-License-Identifier: Apache-2.0
"""The built library against its stored interface, its headers and the list of calls that it must never make.

DD_BUILD is the build folder. Each gate is also shown something wrong, which it must refuse."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

import interface

BUILD = os.environ['DD_BUILD']
LIBRARY = os.path.join(BUILD, 'libdetrdistill', 'libdetrdistill.so.0')
MODULES = sorted(path for kind in ('cpu', 'cuda')
                 for path in glob.glob(os.path.join(BUILD, 'libdetrdistill', '**', f'libdetrdistill-{kind}.so'), recursive=True))

# A library that hosts embed does none of this (architecture, promise 1).
NEVER_IMPORTED = set('''
    exit _exit _Exit quick_exit abort __assert_fail raise kill
    printf __printf_chk vprintf __vprintf_chk puts putchar fprintf __fprintf_chk vfprintf __vfprintf_chk perror stdout stderr
    dprintf __dprintf_chk system popen fork execve
    setenv unsetenv putenv setlocale uselocale signal sigaction sigprocmask pthread_sigmask chdir fchdir umask
    fesetenv fesetround feenableexcept fedisableexcept rand srand random srandom drand48 strtok
'''.split())
# What NVIDIA's static runtime brings into the CUDA module; it is not our code.
STATIC_CUDART = {'exit', 'kill', 'setenv'}

# The core alone must load on any machine: these are for the modules.
CORE_NEEDS = {'libc.so.6', 'libm.so.6', 'libjson-c.so.5', 'libexpat.so.1', 'libjpeg.so.62', 'libpng16.so.16',
              'libpthread.so.0', 'libdl.so.2', 'ld-linux-x86-64.so.2'}


def imported_symbols(library):
    listing = subprocess.run(['nm', '-D', '-u', library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split('@')[0] for line in listing.splitlines()}


def needed_libraries(library):
    listing = subprocess.run(['readelf', '-dW', library], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r'\(NEEDED\).*\[(.*)\]', listing))


def compile_shared(folder, name, code):
    source, library = os.path.join(folder, name + '.c'), os.path.join(folder, name + '.so')
    with open(source, 'w', encoding='utf-8') as file:
        file.write(code)
    subprocess.run(['cc', '-g', '-O0', '-shared', '-fPIC', '-I', interface.INCLUDE, source, '-o', library], check=True)
    return library


class StoredInterface(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not interface.has_debug_information(LIBRARY):
            raise unittest.SkipTest('the library was built without debug information (-Ddebug=true)')
        cls.folder = tempfile.mkdtemp()
        cls.current = os.path.join(cls.folder, 'current.abi')
        interface.store(LIBRARY, cls.current)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_unchanged(self):
        status, report = interface.compare(interface.BASE, LIBRARY)
        self.assertEqual(status, 0, report + '\nmeant? raise DD_ABI_VERSION where callers break, then ./dev abi update')

    def test_base_is_complete(self):
        """Each exported function is in the base with its type, not as a mere symbol."""
        root = ElementTree.parse(interface.BASE).getroot()
        typed = {node.get('elf-symbol-id', '').split('@')[0] for node in root.iter('function-decl')} - {''}
        self.assertEqual(sorted(typed), interface.read(interface.SYMBOLS).split())

    def refuses(self, change):
        """compare(base, library) must fail once `change` has been made to the library's description."""
        tree = ElementTree.parse(self.current)
        change(tree.getroot())
        changed = os.path.join(self.folder, 'changed.abi')
        tree.write(changed)
        status, report = interface.compare(interface.BASE, changed)
        self.assertNotEqual(status, 0, report)
        return report

    def test_refuses_a_removed_function(self):
        def remove(root):
            for parent in root.iter():
                for child in list(parent):
                    if child.get('name') == 'dd_distiller_step' and child.tag in ('elf-symbol', 'function-decl'):
                        parent.remove(child)
        self.assertIn('dd_distiller_step', self.refuses(remove))

    def test_refuses_a_changed_argument(self):
        def change(root):
            double = next(node.get('id') for node in root.iter('type-decl') if node.get('name') == 'double')
            function = next(node for node in root.iter('function-decl') if node.get('elf-symbol-id', '').startswith('dd_dtype_size'))
            function.find('parameter').set('type-id', double)
        self.assertIn('dd_dtype_size', self.refuses(change))

    def test_refuses_a_lost_argument(self):
        def drop(root):
            function = next(node for node in root.iter('function-decl') if node.get('elf-symbol-id', '').startswith('dd_distiller_set_weight'))
            function.remove(function.findall('parameter')[-1])
        self.assertIn('dd_distiller_set_weight', self.refuses(drop))

    def test_refuses_a_moved_field(self):
        def move(root):
            struct = next(node for node in root.iter('class-decl') if node.get('name') == 'dd_tensor' and node.find('data-member') is not None)
            data = next(member for member in struct.findall('data-member') if member[0].get('name') == 'data')
            data.set('layout-offset-in-bits', str(int(data.get('layout-offset-in-bits')) + 64))
        self.assertIn('dd_tensor', self.refuses(move))

    def test_refuses_a_changed_argument_in_a_compiled_library(self):
        good = '#include <detrdistill/tensor.h>\nint64_t dd_dtype_size(int32_t dtype)\n{\n    return dtype;\n}\n'
        with tempfile.TemporaryDirectory() as folder:
            base = os.path.join(folder, 'base.abi')
            interface.store(compile_shared(folder, 'good', good), base)
            self.assertEqual(interface.compare(base, compile_shared(folder, 'same', good))[0], 0)
            bad = good.replace('#include <detrdistill/tensor.h>', '#include <stdint.h>').replace('int32_t dtype', 'int64_t dtype')
            self.assertNotEqual(interface.compare(base, compile_shared(folder, 'bad', bad))[0], 0)
            gone = good.replace('dd_dtype_size', 'dd_other')
            self.assertNotEqual(interface.compare(base, compile_shared(folder, 'gone', gone))[0], 0)


class Symbols(unittest.TestCase):
    def test_as_stored(self):
        self.assertEqual(interface.exported_symbols(LIBRARY), interface.read(interface.SYMBOLS).split())

    def test_as_declared(self):
        self.assertEqual(interface.exported_symbols(LIBRARY), interface.declared_functions())

    def test_modules_export_their_entry_alone(self):
        marks = {'__bss_start', '_edata', '_end'} # of the linker, where there is no version script
        self.assertTrue(MODULES, 'no module was built')
        for module in MODULES:
            with self.subTest(module=module):
                self.assertEqual(set(interface.exported_symbols(module)) - marks, {'dd_backend_entry'})

    def test_history(self):
        known = interface.history()
        self.assertEqual(sorted(known), interface.declared_names(), 'run ./dev abi update')
        for name, version in known.items():
            self.assertRegex(version, r'^\d+\.\d+\.\d+$', name)

    def test_never_imported(self):
        self.assertEqual(imported_symbols(LIBRARY) & NEVER_IMPORTED, set())
        for module in MODULES:
            with self.subTest(module=module):
                allowed = STATIC_CUDART if module.endswith('-cuda.so') else set()
                self.assertEqual(imported_symbols(module) & NEVER_IMPORTED - allowed, set())

    def test_never_imported_sees_a_call(self):
        with tempfile.TemporaryDirectory() as folder:
            library = compile_shared(folder, 'naughty', '#include <stdlib.h>\nvoid f(void)\n{\n    setenv("A", "b", 1);\n    abort();\n}\n')
            self.assertEqual(imported_symbols(library) & NEVER_IMPORTED, {'setenv', 'abort'})

    def test_core_needs_nothing_heavy(self):
        self.assertEqual(needed_libraries(LIBRARY) - CORE_NEEDS, set())
        self.assertIn('libc.so.6', needed_libraries(LIBRARY))


class Headers(unittest.TestCase):
    WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Werror', '-fsyntax-only']

    def compile_alone(self, header, compiler, standard, language):
        """Each header first in a file, twice: it needs nothing before it and may come again."""
        line = f'#include <{os.path.relpath(header, interface.INCLUDE)}>\n'
        done = subprocess.run([compiler, *self.WARNINGS, '-std=' + standard, '-x', language, '-I', interface.INCLUDE, '-'],
                              input=line * 2 + 'int not_empty;\n', stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_each_alone(self):
        headers = interface.headers() + [os.path.join(interface.INCLUDE, 'detrdistill', 'sys', 'backend.h')]
        compilers = [('gcc', 'g++'), ('clang', 'clang++')]
        for c, cxx in compilers:
            if not shutil.which(c):
                self.assertNotEqual(c, 'gcc')
                continue
            for header in headers:
                for compiler, standard, language in ((c, 'c99', 'c'), (c, 'c11', 'c'), (cxx, 'c++17', 'c++')):
                    with self.subTest(header=os.path.basename(header), compiler=compiler, standard=standard):
                        self.compile_alone(header, compiler, standard, language)

    def test_cxx_wrapper_alone(self):
        wrapper = os.path.join(interface.INCLUDE, 'detrdistill', 'detrdistill.hpp')
        for compiler in ('g++', 'clang++'):
            if shutil.which(compiler):
                self.compile_alone(wrapper, compiler, 'c++17', 'c++')

    def test_umbrella_has_all(self):
        umbrella = interface.read(os.path.join(interface.INCLUDE, 'detrdistill', 'detrdistill.h'))
        for header in interface.headers():
            name = os.path.basename(header)
            if name != 'detrdistill.h':
                self.assertIn(f'#include <detrdistill/{name}>', umbrella)

    def test_installed_list_is_complete(self):
        listed = interface.read(os.path.join(interface.INCLUDE, 'meson.build'))
        for header in interface.headers():
            self.assertIn(f"'detrdistill/{os.path.basename(header)}'", listed)


class Limits(unittest.TestCase):
    def test_documented(self):
        """docs/limits.md names every constant of base/limits.h with its value, and no other."""
        code = interface.read(os.path.join(interface.ROOT, 'libdetrdistill', 'base', 'limits.h'))
        values = {}
        for name, value in re.findall(r'^#define (DDI_MAX_\w+) (\S.*?)(?: /\*.*)?$', code, re.M):
            shift = re.fullmatch(r'\(\(int64_t\)1 << (\d+)\)', value)
            values[name] = 1 << int(shift.group(1)) if shift else int(value)
        documented = re.findall(r'^\| `(DDI_MAX_\w+)` \| ([\d,]+) \|', interface.read(os.path.join(interface.ROOT, 'docs', 'limits.md')), re.M)
        self.assertEqual({name: int(value.replace(',', '')) for name, value in documented}, values)


if __name__ == '__main__':
    unittest.main(verbosity=2)
