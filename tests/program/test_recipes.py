#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every recipe says what it must, and runs two tiny steps on generated scenes."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = os.environ['DETRDISTILL']
FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'examples' / 'recipes'
NAMES = sorted(path.stem for path in FOLDER.glob('*.conf'))
# Rows of the published tables, each with its recipe.
ROWS = ['table1-dino-r18-900', 'table1-dino-r50-300', 'table2-voc-r18', 'table2-voc-r50', 'table3-adamixer', 'table3-deformable',
        'table3-conditional', 'table4-adamixer-none', 'table4-adamixer-init', 'table4-adamixer-group', 'table4-adamixer-assigned',
        'main-adamixer-r50', 'main-deformable-r50', 'main-conditional-r50', 'depth-conditional-6-6', 'depth-conditional-6-3',
        'depth-conditional-3-6', 'depth-conditional-3-3', 'light-adamixer-r18', 'light-deformable-r18', 'light-conditional-r18']
# Learning rate, factor of the backbone, clipping, warm-up of students (distillation D.3).
OPTIMISER = {'deformable_detr': ('2e-4', '0.1', '0.1', '500'), 'conditional_detr': ('1e-4', '0.1', '0.1', '0'),
             'adamixer': ('2.5e-5', '1', '1', '500'), 'dino': ('1e-4', '0.1', '0.1', '0')}


def call(*words):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120)


def run(*words, status=0):
    done = call(*words)
    assert done.returncode == status, f'{words}: status {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}'
    return done


class Recipes(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_list(self):
        told = {recipe['name']: recipe for recipe in json.loads(run('recipes', '--json').stdout)}
        self.assertEqual(sorted(told), NAMES)
        self.assertLessEqual(set(ROWS), set(NAMES))
        self.assertEqual(run('recipes').stdout, run('train', '--recipe', 'list').stdout)
        for name, recipe in told.items():
            family = recipe['options']['student'].split(':')[0]
            options = recipe['options']
            for key in ['about', 'layout', 'published', 'uncertain']:
                self.assertTrue(recipe[key], (name, key))
            lr, backbone, clip, warmup = OPTIMISER[family]
            self.assertEqual((options['lr'], options['lr.backbone'], options['clip'], options['decay']), (lr, backbone, clip, '1e-4'), name)
            self.assertEqual(int(options['batch']) * int(options['accumulate']), 16, name)
            if 'teacher' in recipe:
                self.assertEqual(options['warmup'], warmup, name)
                self.assertIn(recipe['teacher-recipe'], NAMES)
                self.assertEqual(told[recipe['teacher-recipe']]['options']['student'], recipe['teacher'], name)
        self.assertEqual(run('recipes', 'table3-deformable').stdout, (FOLDER / 'table3-deformable.conf').read_text())

    def test_every_one_runs(self):
        for name in NAMES:
            with self.subTest(name):
                out = self.folder / name
                done = call('train', '--recipe', name, '--scale', 'tiny', '--steps', 2, '--out', out, '--threads', 2, '--json')
                self.assertEqual(done.returncode, 0, done.stderr)
                told = json.loads(done.stdout)
                self.assertEqual((told['ended'], told['step']), ('finished', 2))
                recipe = json.loads(run('recipes', name, '--json').stdout)
                kd = recipe['options'].get('kd', 'off')
                self.assertEqual('loss.logits' in told, kd != 'off' and 'logits=0' not in kd)
                self.assertEqual('loss.prior' in told, kd != 'off' and 'prior=init' not in kd)
                self.assertEqual((out / 'teacher' / 'config.json').exists(), kd != 'off')
                self.check_sizes(out, recipe, kd)

    def check_sizes(self, out, recipe, kd):
        """Queries stay in proportion, stages as they are."""
        student = json.loads((out / 'student' / 'config.json').read_text())
        words = dict(word.split('=') for word in recipe['options']['student'].split(',')[1:])
        self.assertEqual(student['decoder_layers'], int(words['decoder-layers']))
        self.assertEqual(student['num_queries'] * 25, int(words['queries']))
        if kd != 'off':
            teacher = json.loads((out / 'teacher' / 'config.json').read_text())
            words = dict(word.split('=') for word in recipe['teacher'].split(',')[1:])
            self.assertEqual(teacher['num_queries'] * 25, int(words['queries']))

    def test_options_win(self):
        words = ['train', '--recipe', 'light-deformable-r18', '--scale', 'tiny', '--steps', 1]
        given = json.loads(run(*words, '--out', self.folder / 'a', '--warmup', 0, '--lr', 0.5, '--json').stdout)
        self.assertEqual(given['lr'], 0.5)
        alone = json.loads(run(*words, '--out', self.folder / 'b', '--kd', 'off', '--json').stdout)
        self.assertNotIn('loss.logits', alone)
        taught = json.loads(run(*words, '--out', self.folder / 'c', '--teacher', self.folder / 'a' / 'teacher', '--json').stdout)
        self.assertIn('loss.logits', taught)
        self.assertEqual(json.loads(run('resume', self.folder / 'a', '--steps', 2, '--json').stdout)['step'], 2)

    def test_errors(self):
        train = ['train', '--data', 'scenes', '--out', self.folder / 'x']
        self.assertIn('teacher-deformable-r101', run(*train, '--recipe', 'table3-deformable', status=2).stderr)
        self.assertIn('convert', run(*train, '--recipe', 'table3-deformable', status=2).stderr)
        self.assertIn('recipes lists them', run(*train, '--recipe', 'table9', status=2).stderr)
        self.assertIn('goes with --recipe', run(*train, '--scale', 'tiny', status=2).stderr)
        self.assertIn('full or tiny', run(*train, '--recipe', 'table3-deformable', '--scale', 'small', status=2).stderr)
        self.assertIn('--data is missing', run('train', '--recipe', 'teacher-deformable-r101', '--out', self.folder / 'x', status=2).stderr)
        own = self.folder / 'own.conf'
        for text, said in [('x', 'line 1'), ('# a\n\nnose=3', 'line 3: train has no option --nose'), ('recipe=a', 'no option'),
                           ('a\0=b', 'no recipe'), ('lr=1\n' * 5000, 'no recipe'), ('lr=fast\nstudent=deformable_detr:r18', 'lr')]:
            own.write_text(text)
            done = call(*train, '--recipe', own)
            self.assertIn(done.returncode, [2, 3], text)
            self.assertIn(said, done.stderr, text)
        own.write_text('student=deformable_detr:r34,queries=50')
        self.assertIn('r18, r50 and r101', run(*train, '--recipe', own, '--scale', 'tiny', status=3).stderr)
        environment = {**os.environ, 'DETRDISTILL_RECIPES': str(self.folder)}
        done = subprocess.run([PROGRAM, 'recipes'], capture_output=True, text=True, env=environment)
        self.assertEqual((done.returncode, done.stdout.split()), (0, ['own']))
        environment['DETRDISTILL_RECIPES'] = str(self.folder / 'none')
        self.assertEqual(subprocess.run([PROGRAM, 'recipes'], capture_output=True, env=environment).returncode, 3)


if __name__ == '__main__':
    unittest.main()
