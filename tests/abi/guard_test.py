# SPDX-License-Identifier: Apache-2.0
"""The guard catches what it should, and every test program and example that uses the shared library runs clean under it.

DD_BUILD is the build folder, DD_GUARD the preloaded library."""

import json
import os
import subprocess
import tempfile
import unittest

from abi_test import compile_shared, needed_libraries

BUILD = os.environ['DD_BUILD']
GUARD = os.environ['DD_GUARD']
GUARD_STATUS = 97
SUITES = {'core', 'matcher', 'distiller'}
SECONDS = 300

NAUGHTY = '''
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <locale.h>
int quiet(int x) { return x + 1; }
int misbehave(int how)
{
    volatile long result = 0; /* no tail calls: the return address is how the guard knows the caller */
    switch (how) {
    case 0: result = setenv("A", "b", 1); break;
    case 1: result = (long)setlocale(LC_ALL, ""); break;
    case 2: result = (long)signal(SIGUSR1, SIG_IGN); break;
    case 3: result = chdir("/"); break;
    case 4: result = puts("x"); break;
    case 5: result = fprintf(stderr, "%d", how); break;
    case 6: result = write(1, "x", 1); break;
    case 7: exit(0);
    case 8: abort();
    case 9: result = printf("%d", how); break;
    }
    return (int)result;
}
'''
HOST = '''
#include <stdio.h>
#include <stdlib.h>
int quiet(int), misbehave(int);
int main(int argc, char **argv)
{
    setenv("HOST", "may", 1);
    printf("so may it print\\n");
    return argc > 1 ? misbehave(atoi(argv[1])), 0 : quiet(-1);
}
'''


def run(command, environment=(), folder=None):
    """(status, output) of a program under the guard."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **dict(environment), 'LD_PRELOAD': GUARD}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
    return done.returncode, done.stdout.decode('utf-8', 'replace')


class Guard(unittest.TestCase):
    def test_catches(self):
        with tempfile.TemporaryDirectory() as folder:
            library = compile_shared(folder, 'libdetrdistill-naughty', NAUGHTY)
            host, source = os.path.join(folder, 'host'), os.path.join(folder, 'host.c')
            with open(source, 'w', encoding='utf-8') as file:
                file.write(HOST)
            subprocess.run(['cc', source, library, '-Wl,-rpath,' + folder, '-o', host], check=True)
            self.assertEqual(run([host])[0], 0)
            for how in range(10):
                with self.subTest(how=how):
                    self.assertEqual(run([host, str(how)])[0], GUARD_STATUS)


class Programs(unittest.TestCase):
    def test_suite(self):
        listed = json.loads(subprocess.run(['meson', 'introspect', '--tests', BUILD], check=True, capture_output=True, text=True).stdout)
        ran = 0
        for entry in listed:
            program = entry['cmd'][0]
            if entry['suite'][0].split(':')[-1] not in SUITES or not program.startswith(BUILD) or not os.path.isfile(program):
                continue
            if 'libdetrdistill.so.0' not in needed_libraries(program):
                continue # the library is inside the program, where the guard cannot tell them apart
            with self.subTest(program=entry['name']):
                status, output = run(entry['cmd'], entry['env'], entry['workdir'])
                self.assertNotIn('guard: ', output)
                self.assertEqual(status, 0, output[-2000:])
                ran += 1
        self.assertGreater(ran, 0)


if __name__ == '__main__':
    unittest.main(verbosity=2)
