# SPDX-License-Identifier: Apache-2.0
"""examples/kd_step in four languages: on the same file each prints the golden total."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
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


@unittest.skipUnless(os.environ.get("EXAMPLES"), "SKIPPED: EXAMPLES names no folder")
class Models(unittest.TestCase):
    """Training and detecting say the same in each language, and leave the same student."""
    SCENES = "scenes:train=3,val=1,test=1,size=64,classes=3"

    def say(self, name, *words):
        built, source = pathlib.Path(os.environ["EXAMPLES"]), ROOT / "examples"
        commands = {"c": [built / name], "cpp": [built / f"{name}_cpp"], "py": [sys.executable, source / f"{name}.py"],
                    "lua": [os.environ.get("LUAJIT", "luajit"), source / f"{name}.lua"]}
        if not (built / f"{name}_cpp").exists():
            del commands["cpp"]
        if not os.environ.get("LUAJIT"):
            del commands["lua"]
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "bindings" / "python"),
                           LUA_PATH=f"{ROOT}/bindings/lua/?.lua;{ROOT}/bindings/lua/?/init.lua;;")
        for language, command in commands.items():
            words_here = [str(word).replace("LANGUAGE", language) for word in words]
            done = subprocess.run([*map(str, command), *words_here], capture_output=True, text=True, env=environment)
            self.assertEqual((done.returncode, done.stderr), (0, ""), (language, done.stdout))
            yield language, done.stdout.replace(f"run-{language}", "run")

    def test_all(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        said = dict(self.say("train", folder / "run-LANGUAGE"))
        self.assertRegex(said["c"], r"^step 4  steps 8  epoch 1\nstep 8  steps 8  epoch 2\nloss [0-9.]+, the student is in \S+run/student\n$")
        self.assertEqual(set(said.values()), {said["c"]})
        weights = {(folder / f"run-{language}" / "student" / "model.safetensors").read_bytes() for language in said}
        self.assertEqual(len(weights), 1)
        found = dict(self.say("detect", folder / "run-c" / "student", self.SCENES, 64))
        self.assertRegex(found["c"], r"^(LABEL_\d [0-9.]+ at( -?[0-9.]+){4}\n){3}$")
        self.assertEqual(set(found.values()), {found["c"]})


if __name__ == "__main__":
    unittest.main()
