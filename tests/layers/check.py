#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the sources against docs/architecture.md: who may include whom (the table of layers there), which calls the library
never makes or makes in one place only, how long a function and a file may be. Prints every violation; the status is 1 if there
is one.

    check.py [ROOT]
"""

import os
import re
import sys

# A row of the table: | `match/` | base, tensor, backend | ... |
LAYER_ROW = re.compile(r'^\| `(\w+)/` \| ([^|]*?) \|', re.M)

# Kernels see the plug-in interface, the headers of their vendor and of the C library, and macros of base.
KERNELS = {'backend/ref', 'backend/cpu', 'backend/cuda'}
KERNEL_HEADERS = {'detrdistill/sys/backend.h', 'detrdistill/sys/ops.def', 'detrdistill/tensor.h', 'detrdistill/status.h'}
# The registry hands out the table of reference kernels.
ALSO_ALLOWED = {('backend', 'backend/ref')}
# These use the library as any host does.
OUTSIDERS = ['tools', 'examples', 'bindings']

NEVER = {
    'unbounded or obsolete': 'strcpy strcat sprintf vsprintf strtok gets atoi atol atoll atof rand srand',
    'reads or changes the locale': 'strtod strtof strtold setlocale uselocale',
    'ends the process': 'abort exit _exit _Exit quick_exit assert kill',
    'prints': 'printf vprintf fprintf vfprintf puts fputs putchar putc fputc perror dprintf',
    "changes the host's surroundings": 'system setenv unsetenv putenv signal sigaction sigprocmask chdir umask fesetenv fesetround '
                                       'omp_set_dynamic cudaDeviceReset',
}
# What has one door, so that tests can make it fail (reliability R0): calls -> the files or folders that may make them. A module
# cannot reach the core's allocator; what the CUDA module keeps on the host is a small block for each open device.
ONE_DOOR = {
    'malloc calloc realloc free aligned_alloc posix_memalign strdup strndup asprintf': {'base/alloc.c', 'backend/cuda'},
    'omp_set_num_threads': {'backend/cpu/parallel.c'},
    'open fopen rename fsync unlink mmap munmap': {'base/io.c', 'backend/registry.c'},
    'pthread_create': {'base/thread.c'},
    'dlopen': {'backend/registry.c', 'backend/cuda'},
}

FUNCTION_LINES = 80
FILE_LINES = 900
SOURCE = ('.c', '.h', '.cu', '.cuh', '.inc')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def read_layers(root):
    """Folder of libdetrdistill/ -> folders whose headers it may include, besides its own and detrdistill/*.h."""
    rows = LAYER_ROW.findall(read(os.path.join(root, 'docs', 'architecture.md')))
    return {layer: set(re.findall(r'\w+', below)) for layer, below in rows}


def blank(match):
    """Comments and strings become spaces; line numbers stay."""
    return re.sub(r'[^\n]', ' ', match.group())


def line_of(text, position):
    return text.count('\n', 0, position) + 1


def layer_of(path):
    """'backend/cpu' for libdetrdistill/backend/cpu/x/y.c, 'kd' for libdetrdistill/kd/x.c."""
    parts = os.path.dirname(path).split('/')
    return '/'.join(parts[:2]) if '/'.join(parts[:2]) in KERNELS else parts[0]


def find_header(root, path, bracket, name):
    """The layer that an #include line reaches, or None for a header from outside the library's own folders."""
    library = os.path.join(root, 'libdetrdistill')
    beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
    if bracket == '"' and os.path.exists(os.path.join(library, beside)):
        return layer_of(beside)
    if os.path.exists(os.path.join(library, name)):
        return layer_of(name)
    return None


def includes(text):
    """(line, bracket, name) of each #include that is not in a comment. The name may be a string, so it is read from `text`."""
    code = re.sub(r'/\*.*?\*/', blank, text, flags=re.S)
    return [(line_of(code, match.start()), match.group(1), match.group(2)) for match in INCLUDE.finditer(code)]


def check_includes(root, layers, path, text):
    layer = layer_of(path)
    if layer in KERNELS:
        allowed = {layer, 'base'}
    elif layer in layers:
        allowed = layers[layer] | {layer} | {to for by, to in ALSO_ALLOWED if by == layer}
    else:
        return [(1, f"folder '{layer}' has no row in the table of layers in docs/architecture.md")]
    found = []
    for line, bracket, name in includes(text):
        target = find_header(root, path, bracket, name)
        if target and target not in allowed:
            found.append((line, f'{layer} must not include {name}: {target} is not below it'))
        elif layer in KERNELS and name.startswith('detrdistill/') and name not in KERNEL_HEADERS:
            found.append((line, f'a kernel folder must not include {name}'))
    return found


def check_outsider(root, path, text):
    """Programs, examples and bindings see include/ alone."""
    found = []
    for line, bracket, name in includes(text):
        beside = os.path.exists(os.path.join(root, os.path.dirname(path), name))
        if 'libdetrdistill/' in name or (not beside and os.path.exists(os.path.join(root, 'libdetrdistill', name))):
            found.append((line, f'{name}: only the public headers are for use outside the library'))
    return found


def calls(code, names):
    """(line, name) of each call of a plain function; members like x->free( are not calls of ours to judge."""
    for match in re.finditer(r'(?<![\w.>])(' + '|'.join(names.split()) + r')[ \t]*\(', code):
        yield line_of(code, match.start()), match.group(1)


def check_calls(path, code):
    found = []
    for reason, names in NEVER.items():
        found += [(line, f'{name}() {reason}') for line, name in calls(code, names)]
    for names, doors in ONE_DOOR.items():
        if path not in doors and layer_of(path) not in doors:
            found += [(line, f'{name}() is for {" and ".join(sorted(doors))} alone') for line, name in calls(code, names)]
    return found


def check_lengths(code):
    found = []
    lines = code.splitlines()
    if len(lines) > FILE_LINES:
        found.append((1, f'the file has {len(lines)} lines, more than {FILE_LINES}'))
    start = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == '{':
            start = number
        elif line.startswith('}') and start:
            if number - start + 1 > FUNCTION_LINES:
                found.append((start, f'a function of {number - start + 1} lines, more than {FUNCTION_LINES}'))
            start = None
    return found


def sources(root, folder):
    for where, folders, files in os.walk(os.path.join(root, folder)):
        folders.sort()
        for file in sorted(files):
            if file.endswith(SOURCE):
                yield os.path.relpath(os.path.join(where, file), os.path.join(root, folder))


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def check(root):
    """All violations as 'path:line: what'."""
    found = []
    layers = read_layers(root)
    for path in sources(root, 'libdetrdistill'):
        text = read(os.path.join(root, 'libdetrdistill', path))
        code = COMMENT_OR_STRING.sub(blank, text)
        found += [(f'libdetrdistill/{path}', *violation)
                  for violation in check_includes(root, layers, path, text) + check_calls(path, code) + check_lengths(code)]
    for folder in OUTSIDERS:
        for path in sources(root, folder):
            found += [(f'{folder}/{path}', *violation)
                      for violation in check_outsider(root, f'{folder}/{path}', read(os.path.join(root, folder, path)))]
    return [f'{path}:{line}: {what}' for path, line, what in found]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
    violations = check(root)
    print('\n'.join(violations) if violations else 'layers, calls and lengths are as the picture says')
    return 1 if violations else 0


if __name__ == '__main__':
    sys.exit(main())
