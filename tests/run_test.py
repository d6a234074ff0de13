# SPDX-License-Identifier: Apache-2.0
"""The test runner reads what cmocka, unittest and plain programs print, and loses no failure."""

import importlib.machinery
import importlib.util
import os
import unittest

loader = importlib.machinery.SourceFileLoader('run', os.path.join(os.path.dirname(os.path.abspath(__file__)), 'run'))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader('run', loader))
loader.exec_module(run)

CMOCKA = '''1..3
ok 1 - adds
not ok 2 - subtracts
# 0x1 != 0x2
# t.c:7: error: Failure!
skipped: no GPU here
not ok 3 # SKIP multiplies
# not ok - tests
'''


class ReadOutput(unittest.TestCase):
    def check(self, text, status, passed, failed, skipped):
        outcome = run.read_output(text, status)
        self.assertEqual((outcome.passed, outcome.failed, len(outcome.skipped)), (passed, failed, skipped), outcome)
        return outcome

    def test_cmocka(self):
        self.assertEqual(self.check(CMOCKA, 1, 1, 1, 1).skipped, ['multiplies: no GPU here'])

    def test_cmocka_group_setup_fails(self):
        self.check('1..3\nnot ok 0 - bad [  FAILED  ] GROUP SETUP\n# ok - bad\n', 1, 0, 2, 0)

    def test_cmocka_crash(self):
        self.check('1..3\nok 1 - adds\n', -11, 1, 1, 0)
        self.check('1..3\nok 1 - adds\n', 0, 1, 1, 0)

    def test_leak_report_after_good_cases(self):
        self.check('1..1\nok 1 - adds\n# ok - tests\n==1==ERROR: LeakSanitizer\n', 23, 1, 1, 0)

    def test_two_groups(self):
        self.check('1..1\nok 1 - a\n# ok - x\n1..1\nok 1 - b\n# ok - y\n', 0, 2, 0, 0)

    def test_unittest(self):
        text = "test_a (m.T) ... ok\ntest_b (m.T) ... skipped 'no torch'\ntest_c (m.T) ... FAIL\n\nRan 3 tests in 0.1s\n\n" \
               "FAILED (failures=1, skipped=1)\n"
        self.assertEqual(self.check(text, 1, 1, 1, 1).skipped, ['test_b: no torch'])
        self.check('..\nRan 2 tests in 0.1s\n\nOK\n', 0, 2, 0, 0)
        self.check('.\nRan 2 tests in 0.1s\n\nOK (skipped=1)\n', 0, 1, 0, 1)
        self.check('\nRan 0 tests in 0.0s\n\nOK\n', 0, 0, 1, 0)

    def test_count_line(self):
        self.check('case one: error 1e-7\n12 passed, 0 failed\n', 0, 12, 0, 0)
        self.assertEqual(self.check('skipped: no shared folder\n12 passed, 1 failed, 1 skipped\n', 1, 12, 1, 1).skipped,
                         ['no shared folder'])
        self.check('12 passed, 0 failed\n', 1, 12, 1, 0)

    def test_plain_program(self):
        self.check('fine\n', 0, 1, 0, 0)
        self.check('broken\n', 1, 0, 1, 0)
        self.check('', -6, 0, 1, 0)
        self.check('', None, 0, 1, 0)
        self.assertEqual(self.check('skipped: no nvcc\n', 77, 0, 0, 1).skipped, ['no nvcc'])


class Selected(unittest.TestCase):
    def test_words(self):
        self.assertTrue(run.selected([], 'core', 'tensor'))
        self.assertTrue(run.selected(['fault'], 'fault', 'oom'))
        self.assertFalse(run.selected(['fault'], 'core', 'tensor'))
        self.assertTrue(run.selected(['threads*'], 'core', 'threads_handles'))
        self.assertFalse(run.selected(['-bindings'], 'bindings', 'python'))
        self.assertTrue(run.selected(['-bindings'], 'core', 'tensor'))


if __name__ == '__main__':
    unittest.main(verbosity=2)
