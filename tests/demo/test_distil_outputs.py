# SPDX-License-Identifier: Apache-2.0
"""The example program distil_outputs: it teaches, draws, and says clearly what is wrong.

    test_distil_outputs.py PROGRAM SHARED_DIR
"""

import csv
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM, SHARED = sys.argv[1:3]
SVG = '{http://www.w3.org/2000/svg}'


def write_safetensors(path, tensors):
    """{name: (shape, floats)}"""
    header, data = {}, b''
    for name, (shape, values) in tensors.items():
        piece = struct.pack(f'<{len(values)}f', *values)
        header[name] = {'dtype': 'F32', 'shape': shape, 'data_offsets': [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + data)


def small_files(folder):
    """Two pictures with an object each, two classes; the teacher knows, the student is unsure."""
    data, truth = os.path.join(folder, 'outputs.safetensors'), os.path.join(folder, 'truth.json')
    boxes = [[.3, .3, .2, .2], [.6, .6, .4, .3]]
    write_safetensors(data, {
        'big.pred_logits': ([2, 2, 2], [3, -4, -5, -5, -4, 3, -5, -5]),
        'big.pred_boxes': ([2, 2, 4], boxes[0] + [.8, .8, .1, .1] + boxes[1] + [.1, .2, .1, .1]),
        'small.pred_logits': ([2, 2, 2], [-1, -1, -2, -3, -2, -2, -1, -3]),
        'small.pred_boxes': ([2, 2, 4], [.35, .3, .15, .2, .7, .8, .2, .1, .5, .6, .3, .3, .2, .2, .1, .2])})
    with open(truth, 'w', encoding='utf-8') as file:
        json.dump({'image_order': [70, 9], 'results': {'big': [
            {'image_id': 9, 'labels': [1], 'boxes_cxcywh': [boxes[1]]},
            {'image_id': 70, 'labels': [0], 'boxes_cxcywh': [boxes[0]]}]}}, file)
    return data, truth


class Demo(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.out = os.path.join(self.folder, 'out')

    def run_demo(self, *arguments, status=0):
        done = subprocess.run([PROGRAM, '--out', self.out, *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def rows(self):
        with open(os.path.join(self.out, 'terms.csv'), newline='', encoding='utf-8') as file:
            return list(csv.DictReader(file))

    def check_learned(self, steps, terms):
        """All terms are there and fell; AP rose."""
        rows = self.rows()
        self.assertEqual([int(row['step']) for row in rows], list(range(steps + 1)))
        for term in terms:
            self.assertLess(float(rows[-1][term]), .95 * float(rows[0][term]), term)
        self.assertGreater(float(rows[-1]['AP']), float(rows[0]['AP']) + .01)
        return rows

    def test_generated_case(self):
        done = self.run_demo('--steps', 60)
        self.assertEqual(done.stderr, '')
        self.assertNotIn('\r', done.stdout)
        rows = self.check_learned(60, ['total', 'logits.class', 'logits.l1', 'logits.giou', 'logits.l1_negative',
                                       'logits.giou_negative'])
        self.assertGreater(float(rows[-1]['AP']), .5)  # starts near .15, the teacher has .72
        self.assertGreater(float(rows[-1]['objects_found']), float(rows[0]['objects_found']))
        self.assertEqual(rows[0]['partners_kept'], '')
        self.assertGreater(float(rows[-1]['partners_kept']), .9)
        table = [line.split()[0] for line in done.stdout.splitlines() if line[:5].strip().isdigit()]
        self.assertEqual(table, ['0', '50', '60'])
        self.assertIn('student after', done.stdout)

    def test_picture(self):
        self.run_demo('--steps', 12, '--labels')
        root = xml.etree.ElementTree.parse(os.path.join(self.out, 'curves.svg')).getroot()
        self.assertEqual(root.tag, SVG + 'svg')
        texts = [text.text for text in root.iter(SVG + 'text')]
        for word in ['Loss terms', 'step', 'share of the value at step 0', 'total', 'det.giou', 'logits.class', 'AP, student',
                     'AP, teacher', 'objects found']:
            self.assertIn(word, texts)
        lines = [path.get('d') for group in root.iter(SVG + 'g') for path in group.iter(SVG + 'path')]
        self.assertEqual(max(line.count('L') for line in lines), 12)  # 13 points
        self.assertNotIn('nan', ''.join(lines).lower())

    def test_labels_and_joint_matching(self):
        self.run_demo('--steps', 40, '--labels')
        self.check_learned(40, ['total', 'det.class', 'det.l1', 'det.giou', 'logits.l1', 'logits.giou'])
        self.run_demo('--steps', 40, '--joint')
        rows = self.check_learned(40, ['total', 'logits.class', 'logits.l1', 'logits.giou'])
        self.assertNotIn('logits.l1_negative', rows[0])

    def test_same_seed_same_run(self):
        def run(*arguments):
            self.run_demo('--steps', 8, *arguments)
            return self.rows()
        first = run('--seed', 5)
        self.assertEqual(run('--seed', 5), first)
        self.assertNotEqual(run('--seed', 6), first)

    def test_files(self):
        data, truth = small_files(self.folder)
        done = self.run_demo('--data', data, '--ground-truth', truth, '--teacher', 'big', '--student', 'small', '--steps', 100)
        self.assertIn('2 pictures, 2 objects of 2 classes, teacher 2 queries, student 2', done.stdout)
        rows = self.check_learned(100, ['total', 'logits.class', 'logits.l1', 'logits.giou'])
        self.assertGreater(float(rows[-1]['AP']), .9)

    def test_real_outputs(self):
        folder = os.path.join(SHARED, 'data', 'deimv2')
        if not os.path.isdir(folder):
            self.skipTest(f'no {folder}')
        self.run_demo('--data', os.path.join(folder, 'outputs.safetensors'), '--ground-truth',
                      os.path.join(folder, 'hungarian_ref.json'), '--steps', 30)
        rows = self.check_learned(30, ['total', 'logits.class', 'logits.l1', 'logits.giou'])
        self.assertAlmostEqual(float(rows[0]['AP']), .31, delta=.005)

    def test_wrong_arguments(self):
        for words in [['--stepz', '3'], ['--steps'], ['--steps', '0'], ['--steps', '3x'], ['--steps', ''], ['--lr', 'nan'],
                      ['--seed', '-1'], ['--data', 'x'], ['--ground-truth', 'x'], ['file'], ['--device', '']]:
            done = self.run_demo(*words, status=2)
            self.assertIn('--help', done.stderr)
            self.assertIn(words[0], done.stderr)
            self.assertEqual(done.stdout, '')
        self.assertFalse(os.path.exists(self.out))

    def test_missing_and_damaged_files(self):
        data, truth = small_files(self.folder)
        models = ['--teacher', 'big', '--student', 'small']
        missing = os.path.join(self.folder, 'nothing')
        broken = os.path.join(self.folder, 'broken')
        with open(broken, 'w', encoding='utf-8') as file:
            file.write('{"image_order": [1], "results": {}}')
        for words in [['--data', missing, '--ground-truth', truth], ['--data', data, '--ground-truth', missing],
                      ['--data', broken, '--ground-truth', truth], ['--data', data, '--ground-truth', broken]]:
            done = self.run_demo(*words, *models, status=3)
            self.assertTrue(done.stderr.startswith('distil_outputs: '), done.stderr)
        done = self.run_demo('--data', data, '--ground-truth', truth, '--teacher', 'huge', '--student', 'small', status=3)
        self.assertIn('huge.pred_logits', done.stderr)
        self.out = broken  # a file where the folder should be
        self.assertIn(broken, self.run_demo(status=3).stderr)

    def test_unknown_device(self):
        self.assertIn('DD_ERR_', self.run_demo('--device', 'abacus', status=4).stderr)

    def test_help(self):
        text = self.run_demo('--help').stdout
        for option in ['--data', '--ground-truth', '--teacher', '--student', '--labels', '--joint', '--steps', '--lr', '--box-lr',
                       '--seed', '--device', '--out']:
            self.assertIn(f'  {option} ', text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)

    def test_interrupt_keeps_results(self):
        with subprocess.Popen([PROGRAM, '--out', self.out, '--steps', '100000'], stdout=subprocess.PIPE, text=True) as run:
            while not run.stdout.readline().startswith('    0'):
                pass
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130)
        self.assertLess(len(self.rows()), 100000)
        xml.etree.ElementTree.parse(os.path.join(self.out, 'curves.svg'))

    def test_progress_on_a_terminal(self):
        ours, theirs = pty.openpty()
        done = subprocess.run([PROGRAM, '--out', self.out, '--steps', '3'], stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        shown = os.read(ours, 4096).decode()
        os.close(ours)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(shown, r'\rstep 2/3, \d+ s left')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
