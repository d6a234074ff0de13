#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The library's public interface: what the headers declare, what a built library exports, and the stored base.

    interface.py update LIBRARY      stores the library's interface as the base: detrdistill.abi, symbols.txt, and
                                     docs/symbols-in-versions.md gets the new names
    interface.py compare LIBRARY     compares with the base; the status is 1 where they differ
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
INCLUDE = os.path.join(ROOT, 'include')
BASE = os.path.join(HERE, 'detrdistill.abi')
SYMBOLS = os.path.join(HERE, 'symbols.txt')
HISTORY = os.path.join(ROOT, 'docs', 'symbols-in-versions.md')
# Types that the headers do not define stay out: what is behind a handle may change. Without the second option libabigail 2.2
# takes some functions for mere declarations and does not compare their arguments.
PUBLIC_ONLY = ['--drop-private-types', '--exported-interfaces-only']

HISTORY_HEAD = """# Names and the version that brought them

Every function, type, constant and macro of `include/detrdistill/` (without `sys/`, whose promise is weaker), with the first
version that had it. `./dev abi update` adds new names; a test compares this list with the headers. Names are never removed or
reused before a new soname.

| name | since |
|---|---|
"""


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def headers():
    """Paths of the public headers, without sys/."""
    folder = os.path.join(INCLUDE, 'detrdistill')
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith('.h')]


def header_code():
    return '\n'.join(re.sub(r'/\*.*?\*/', ' ', read(path), flags=re.S) for path in headers())


def declared_functions():
    return sorted(re.findall(r'\bDD_API\b[^;()]*?\b(dd_\w+)\s*\(', header_code()))


def declared_names():
    """Functions, types, enumerators and macros."""
    code = header_code()
    types = re.findall(r'\}\s*(dd_\w+)\s*;', code) + re.findall(r'^typedef [^(){};]*?\b(dd_\w+)\s*;', code, re.M) + \
        re.findall(r'^typedef [^;]*\(\*(dd_\w+)\)', code, re.M)
    enumerators = [name for body in re.findall(r'\benum\s*\{(.*?)\}', code, re.S) for name in re.findall(r'\b(DD_\w+)\s*=', body)]
    macros = [name for name in re.findall(r'^#define (D\w+)', code, re.M) if name.startswith('DD_')]
    return sorted(set(declared_functions() + types + enumerators + macros))


def exported_symbols(library):
    """Names that a shared library defines for others, without the name of its version node."""
    listing = subprocess.run(['nm', '-D', '--defined-only', library], check=True, capture_output=True, text=True).stdout
    return sorted(name.split('@')[0] for _, kind, name in (line.split() for line in listing.splitlines()) if kind != 'A')


def history():
    """name -> version, from docs/symbols-in-versions.md."""
    return dict(re.findall(r'^\| `(\w+)` \| (\S+) \|', read(HISTORY), re.M)) if os.path.exists(HISTORY) else {}


def has_debug_information(library):
    return '.debug_info' in subprocess.run(['readelf', '-SW', library], check=True, capture_output=True, text=True).stdout


def store(library, path):
    """Writes the interface of `library` as abidw sees it."""
    subprocess.run(['abidw', '--headers-dir', INCLUDE, *PUBLIC_ONLY, '--no-corpus-path', '--no-comp-dir-path', '--no-show-locs',
                    '--no-architecture', '--out-file', path, library], check=True)


def compare(base, candidate):
    """(status, report) of abidiff; its status is 0 only where nothing at all differs. A stored candidate is public already."""
    public = [] if candidate.endswith('.abi') else ['--headers-dir2', INCLUDE, *PUBLIC_ONLY]
    done = subprocess.run(['abidiff', *public, '--no-architecture', '--no-show-locs', base, candidate],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def update(library):
    store(library, BASE)
    with open(SYMBOLS, 'w', encoding='utf-8') as file:
        file.write('\n'.join(exported_symbols(library)) + '\n')
    known = history()
    version = re.search(r"version: '([\d.]+)'", read(os.path.join(ROOT, 'meson.build'))).group(1)
    with open(HISTORY, 'w', encoding='utf-8') as file:
        file.write(HISTORY_HEAD + ''.join(f'| `{name}` | {known.get(name, version)} |\n' for name in declared_names()))


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ('update', 'compare'):
        print(__doc__)
        return 2
    library = sys.argv[2]
    if not has_debug_information(library):
        print(f'{library} was built without debug information (-Ddebug=true), which abidw reads')
        return 2
    if sys.argv[1] == 'update':
        update(library)
        return 0
    status, report = compare(BASE, library)
    print(report if status else 'the interface is as stored')
    return 1 if status else 0


if __name__ == '__main__':
    sys.exit(main())
