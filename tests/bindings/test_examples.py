# SPDX-License-Identifier: Apache-2.0
"""examples/kd_step in four languages: on the same file each prints the golden total."""
import os
import subprocess
import sys
import unittest

from support import DATA, ROOT, missing

import detrdistill as dd


class Examples(unittest.TestCase):
    def total(self, *command):
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "bindings" / "python"),
                           LUA_PATH=f"{ROOT}/bindings/lua/?.lua;{ROOT}/bindings/lua/?/init.lua;;")
        done = subprocess.run([*map(str, command), str(DATA)], capture_output=True, text=True, env=environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^total [0-9.]+\n$")
        return f"{float(done.stdout.split()[1]):.6g}"

    def setUp(self):
        self.golden = f"{float(dd.metadata(DATA, 'total')):.6g}"

    @unittest.skipUnless(os.environ.get("KD_STEP"), "SKIPPED: KD_STEP names no program")
    def test_c(self):
        self.assertEqual(self.total(os.environ["KD_STEP"]), self.golden)
        done = subprocess.run([os.environ["KD_STEP"], "/nonexistent"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent", done.stdout)

    @unittest.skipUnless(os.environ.get("KD_STEP_CPP"), "SKIPPED: no C++ compiler")
    def test_cpp(self):
        self.assertEqual(self.total(os.environ["KD_STEP_CPP"]), self.golden)

    @unittest.skipUnless(os.environ.get("LUAJIT"), "SKIPPED: LUAJIT names no luajit")
    def test_lua(self):
        self.assertEqual(self.total(os.environ["LUAJIT"], ROOT / "examples" / "kd_step.lua"), self.golden)

    @unittest.skipIf(missing("torch"), missing("torch"))
    def test_python(self):
        self.assertEqual(self.total(sys.executable, ROOT / "examples" / "kd_step.py"), self.golden)


if __name__ == "__main__":
    unittest.main()
