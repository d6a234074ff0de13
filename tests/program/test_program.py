#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the program: exit codes, help, completion, numbers on real and on hostile files."""

import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from xml.etree import ElementTree

PROGRAM = os.environ['DETRDISTILL']
ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get('DETRDISTILL_TEST_DATA', ROOT.parent / 'shared' / 'data'))
VERBS = ['train', 'recipes', 'resume', 'eval', 'predict', 'info', 'doctor', 'plan', 'convert', 'plot', 'verify', 'completion', 'manual', 'version']


def run(*words, status=0):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, f'{words}: status {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}'
    return done


def needs(*parts):
    path = DATA.joinpath(*parts)
    return unittest.skipUnless(path.exists(), f'{path} is missing')


def annotation(objects):
    boxes = ''.join(f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>'
                    f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>' for name, x, y, x2, y2, difficult in objects)
    return f'<annotation><filename>a.jpg</filename>{boxes}</annotation>'


class Words(unittest.TestCase):
    def test_overview(self):
        self.assertIn('eval', run('--help').stdout)
        self.assertIn('usage', run(status=2).stdout)

    def test_help_of_every_verb(self):
        for verb in VERBS:
            self.assertTrue(run(verb, '--help').stdout.startswith(f'usage: detrdistill {verb}'))

    def test_unknown_words(self):
        self.assertIn('did you mean eval', run('evl', status=2).stderr)
        self.assertIn('did you mean --results', run('eval', '--result', 'x', status=2).stderr)
        self.assertIn('is no option', run('eval', 'x', 'y', status=2).stderr)
        self.assertIn('--data DIR is missing', run('eval', 'x', status=2).stderr)
        self.assertIn('goes with MODEL', run('eval', '--data', 'x', status=2).stderr)
        self.assertIn('needs a value', run('eval', '--results', status=2).stderr)
        self.assertIn('twice', run('eval', '--json', '--json', status=2).stderr)
        self.assertIn('takes no value', run('eval', '--json=1', status=2).stderr)
        self.assertIn('goes with --voc', run('eval', '--annotations', 'a', '--results', 'b', '--iou', '0.5', status=2).stderr)
        self.assertIn('either', run('eval', '--results', 'b', status=2).stderr)

    def test_completion(self):
        script = run('completion', 'bash').stdout
        subprocess.run(['bash', '-n'], input=script, text=True, check=True)
        asked = script + '\nCOMP_WORDS=(detrdistill eval --re); COMP_CWORD=2; _detrdistill; echo "${COMPREPLY[@]}"'
        self.assertEqual(subprocess.run(['bash'], input=asked, text=True, capture_output=True, check=True).stdout, '--results\n')
        self.assertIn('--results', run('completion', 'zsh').stdout)
        self.assertIn('-l results -r', run('completion', 'fish').stdout)
        self.assertIn('bash, zsh or fish', run('completion', 'sh', status=2).stderr)
        self.assertIn('missing', run('completion', status=2).stderr)

    def test_manual(self):
        page = run('manual').stdout
        for verb in VERBS:
            self.assertIn(f'.SS {verb}', page)
        self.assertIn('\\fB\\-\\-annotations', page)

    @unittest.skipUnless(os.path.exists('/dev/full'), '/dev/full is missing')
    def test_full_disk(self):
        with open('/dev/full', 'w') as full:
            done = subprocess.run([PROGRAM, 'manual'], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn('could not be written', done.stderr)


class Machine(unittest.TestCase):
    def test_verify(self):
        got = json.loads(run('verify', '--json').stdout)
        self.assertGreaterEqual(len(got), 5)
        for name, kind in got.items():
            self.assertTrue(kind['good'], (name, kind))
        self.assertRegex(run('verify', '--kernels').stdout, r'conv_grad +ref\n')

    def test_verify_finds(self):
        """The stored numbers are those of the float64 reference, digit by digit but for the last ones."""
        stored = (ROOT / 'tools' / 'verify_vectors.inc.h').read_text()
        for old, new in zip(*(re.findall(r'-?[0-9.]+(?:e-?[0-9]+)?(?=[,}])', text) for text in (stored, run('verify', '--write').stdout)),
                            strict=True):
            self.assertAlmostEqual(float(new) / float(old), 1, 6)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, value):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path


class Coco(Files):
    GT = {'info': {'a': ['"]}', 1]}, 'annotations': [{'id': 1, 'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 10, 10], 'iscrowd': 0}],
          'images': [{'id': 9}, {'id': 12}], 'categories': [{'id': 4, 'name': 'a "b"'}]}

    def evaluate(self, gt, dt, status=0):
        done = run('eval', '--annotations', self.write('gt.json', gt), '--results', self.write('dt.json', dt), '--json', status=status)
        return json.loads(done.stdout) if status == 0 else done.stderr

    def test_small_case(self):
        result = {'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 10, 9], 'score': .5}
        got = self.evaluate(self.GT, [result, {**result, 'image_id': 10}])
        self.assertAlmostEqual(got['AP'], 0.9, 12)  # IoU .9: right at .5 .. .9, wrong at .95
        self.assertEqual(got['left_out'], 1)
        (only,) = got['classes']
        self.assertAlmostEqual(only.pop('AP'), 0.9, 12)
        self.assertEqual(only, {'id': 4, 'name': 'a "b"', 'objects': 1, 'detections': 1})
        self.assertEqual(self.evaluate(self.GT, [])['AP'], 0)

    def test_damaged_files(self):
        good = {'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 1, 1], 'score': 1}
        for dt in ['', '{', '[', '[{]', '[{}', '[1]', '[{"image_id":9}]', '[[[[', [{**good, 'bbox': [0, 0, 1]}], [{**good, 'bbox': [0, 0, -1, 1]}],
                   [{**good, 'score': 'x'}], [{**good, 'score': float('nan')}], [{**good, 'image_id': 1.5}], [{**good, 'image_id': 1e300}],
                   json.dumps([good]) + 'x', '[' + '{"a":' * 2000, '[{"bbox": [0,0,1e999,1], "image_id":9,"category_id":4,"score":1}]']:
            self.assertIn('dt.json', self.evaluate(self.GT, dt, status=3), dt)
        for gt in ['', '[]', '{}', '{"images": [], "annotations": 5}', '{"images": [{"id": "x"}]}', '{"images": [}', {**self.GT, 'annotations': [{}]}]:
            self.assertIn('gt.json', self.evaluate(gt, [], status=3), gt)

    def test_truncated_at_every_byte(self):
        text = json.dumps([{'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 1, 1], 'score': 1}])
        for length in range(len(text)):
            self.evaluate(self.GT, text[:length], status=3)
        text = json.dumps(self.GT)
        for length in range(0, len(text), 3):
            self.evaluate(text[:length], [], status=3)

    def test_spaces(self):
        """However the file is laid out, it says the same."""
        gt, dt = self.GT, [{'image_id': 9, 'category_id': 4, 'bbox': [0, 0, 10, 9], 'score': .5}]
        for words in [{}, {'indent': 1}, {'indent': 0}, {'separators': (' , ', ' : ')}, {'indent': '\t'}]:
            self.assertAlmostEqual(self.evaluate(json.dumps(gt, **words) + '\n', json.dumps(dt, **words) + ' \r\n')['AP'], .9, 12)

    def test_missing_file(self):
        self.assertIn('cannot open', run('eval', '--annotations', self.folder / 'none', '--results', 'x', status=3).stderr)

    @needs('eval-coco')
    def test_published_numbers(self):
        folder = DATA / 'eval-coco'
        files = ['--annotations', folder / 'instances_val2014_100.json', '--results', folder / 'instances_val2014_fakebbox100_results.json']
        got = json.loads(run('eval', *files, '--json').stdout)
        published = [.504581, .696973, .572982, .585626, .5194, .501398, .386813, .59368, .595353, .639811, .566421, .564291]
        for value, name in zip(published, ['AP', 'AP50', 'AP75', 'AP_S', 'AP_M', 'AP_L', 'AR1', 'AR10', 'AR100', 'AR_S', 'AR_M', 'AR_L']):
            self.assertAlmostEqual(got[name], value, delta=5.1e-7)
        self.assertEqual(sum(c['objects'] for c in got['classes']), 830)  # 839 boxes, 9 of them crowd
        self.assertRegex(run('eval', *files).stdout, r'AP      0\.5046 .*\n')


class Voc(Files):
    def evaluate(self, results, *words, status=0):
        done = run('eval', '--voc', self.folder, '--results', self.write('dt.json', results), '--json', *words, status=status)
        return json.loads(done.stdout) if status == 0 else done.stderr

    def test_rules(self):
        """A difficult object neither counts nor makes its detection wrong; a second detection of an object is wrong."""
        self.write('Annotations/a.xml', annotation([('dog', 1, 1, 11, 11, 0), ('dog', 101, 1, 111, 11, 1)]))
        self.write('Annotations/b.xml', annotation([('cat', 20, 20, 5, 5, 0)]))  # corners swapped
        self.write('ImageSets/Main/all.txt', 'a  1\nc -1\n\nb 1')
        hit = {'image_id': 'a', 'category_id': 'dog', 'bbox': [0, 0, 10, 10], 'score': .5}
        results = [{**hit, 'bbox': [100, 0, 10, 10], 'score': .9}, hit, {**hit, 'score': .4},
                   {'image_id': 'b', 'category_id': 1, 'bbox': [4, 4, 15, 15], 'score': .3}, {**hit, 'category_id': 'cow'}]
        got = self.evaluate(results)
        self.assertEqual((got['mAP'], got['left_out']), (1, 1))
        self.assertEqual([(c['name'], c['objects'], c['detections']) for c in got['classes']], [('cat', 1, 1), ('dog', 1, 3)])
        self.assertEqual(self.evaluate(results + [{**hit, 'image_id': 'c', 'score': .8}], '--split', 'all')['mAP'], .75)
        self.assertIn('cannot open', self.evaluate(results, '--split', 'none', status=3))
        self.assertIn('iou', self.evaluate(results, '--iou', '2', status=2))

    def test_numbers_as_names(self):
        self.write('000012.xml', annotation([('dog', 1, 1, 11, 11, 0)]))
        self.assertEqual(self.evaluate([{'image_id': 12, 'category_id': 'dog', 'bbox': [0, 0, 10, 10], 'score': 1}])['mAP'], 1)

    def test_damaged_annotations(self):
        good = annotation([('dog', 1, 1, 11, 11, 0)])
        for bad in ['', 'x', '<a/>', good[:-1], good.replace('dog', ''), good.replace('<xmin>1</xmin>', ''), good.replace('>11<', '>x<'),
                    good.replace('>11<', '>1e9<'), '<!DOCTYPE a [<!ENTITY b "c">]>' + good, '<annotation>' + '<x>' * 5000,
                    good.replace('dog', 'd' * 200), good.replace('<difficult>0', '<difficult>7')]:
            self.write('a.xml', bad)
            self.assertIn('a.xml', self.evaluate([], status=3), bad)
        for length in range(len(good)):
            self.write('a.xml', good[:length])
            self.evaluate([], status=3)

    def test_empty_folder(self):
        self.assertIn('no picture', self.evaluate([], status=3))

    @needs('voc-toy-cats')
    def test_published_toy_cats(self):
        folder = DATA / 'voc-toy-cats'
        expected = json.loads((folder / 'expected_ap.json').read_text())
        found = json.loads((folder / 'dets_coco_format' / 'coco_dets.json').read_text())
        stem = {image['id']: image['file_name'][:-4] for image in found['images']}
        # These detections count pixels from 1, as the annotations do.
        results = self.write('toy.json', [{'image_id': stem[d['image_id']], 'category_id': 'cat', 'score': d['score'],
                                           'bbox': [d['bbox'][0] - 1, d['bbox'][1] - 1, *d['bbox'][2:]]} for d in found['annotations']])
        for key, iou, points in [('11pt@0.5', .5, 11), ('area@0.5', .5, 'all'), ('11pt@0.75', .75, 11), ('area@0.75', .75, 'all')]:
            done = run('eval', '--voc', folder / 'gts_vocpascal_format', '--results', results, '--iou', iou, '--points', points, '--plus-one',
                       1, '--json')
            self.assertAlmostEqual(json.loads(done.stdout)['mAP'], expected[f'AP_{key}'], delta=5.1e-5)

    @needs('eval-voc')
    def test_published_sample(self):
        """Boxes are x y w h counted from 0; the annotations are written anew as VOC XML."""
        results = []
        for path in sorted((DATA / 'eval-voc' / 'odm' / 'groundtruths').iterdir()):
            objects = [(word[0], *(float(v) for v in word[1:])) for word in map(str.split, path.read_text().splitlines())]
            self.write(f'{path.stem}.xml', annotation([(name, x + 1, y + 1, x + 1 + w, y + 1 + h, 0) for name, x, y, w, h in objects]))
            for line in (DATA / 'eval-voc' / 'odm' / 'detections' / path.name).read_text().splitlines():
                name, score, *box = line.split()
                results.append({'image_id': path.stem, 'category_id': name, 'score': float(score), 'bbox': [float(v) for v in box]})
        for points, expected in [('all', .2456867), (11, .2683983)]:
            got = self.evaluate(results, '--iou', .3, '--points', points, '--plus-one', 1)
            self.assertAlmostEqual(got['mAP'], expected, delta=5.1e-8)


class Model(unittest.TestCase):
    """A tiny model learns generated scenes; the other verbs look at what came out."""
    SCENES = 'scenes:train=6,val=3,test=2,size=64,classes=3'
    STUDENT = ('deformable_detr:r18,queries=6,decoder-layers=2,encoder-layers=1,width=32,levels=3,heads=2,points=2,ffn=32,stem=8,'
               'widths=8,16,24,32,depths=1,1,1,1')
    DATA = ['--data', SCENES]
    SIZES = ['--sizes', 64, '--max-size', 0]
    TRAIN = ['train', *DATA, '--student', STUDENT, *SIZES, '--crop', 0, '--log-every', 1, '--warmup', 0]

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.made = cls.folder / 'run'
        cls.done = run(*cls.TRAIN, '--out', cls.made, '--epochs', 2, '--json')

    def test_train(self):
        told = json.loads(self.done.stdout)
        self.assertEqual((told['ended'], told['step'], told['epoch']), ('finished', 6, 2))
        self.assertRegex(self.done.stderr, r'epoch 1/2 +step 1/6 +loss [0-9.]+ .*left\n')  # piped: plain lines
        self.assertNotIn('\r', self.done.stderr)
        for name in ['config.json', 'log.jsonl', 'metrics.csv', 'curves.svg', 'state.safetensors', 'student/model.safetensors',
                     'best/config.json']:
            self.assertTrue((self.made / name).stat().st_size, name)
        self.assertIn('holds a run already', run(*self.TRAIN, '--out', self.made, status=1).stderr)

    def test_train_errors(self):
        out = ['--out', self.folder / 'none']
        self.assertIn('--data is missing', run('train', status=2).stderr)
        self.assertIn('--out is missing', run('train', *self.DATA, '--student', self.STUDENT, status=2).stderr)
        self.assertIn('family', run('train', *self.DATA, '--student', 'yolo:r50', *out, status=2).stderr)
        self.assertIn('resnet-99', run('train', *self.DATA, '--student', 'deformable_detr:r99', *out, status=2).stderr)
        self.assertIn('lr', run(*self.TRAIN, *out, '--lr', 'fast', status=2).stderr)
        self.assertIn('did you mean --epochs', run(*self.TRAIN, *out, '--epoch', 1, status=2).stderr)
        self.assertIn('nowhere', run('train', '--data', self.folder / 'nowhere', '--student', self.STUDENT, *out, status=3).stderr)
        self.assertIn('nowhere', run(*self.TRAIN, *out, '--teacher', self.folder / 'nowhere', status=3).stderr)
        self.assertIn('device', run(*self.TRAIN, *out, '--device', 'cuda:63', status=5).stderr)

    def test_resume(self):
        """A run that is interrupted and goes on ends with the same bits as one that is not."""
        whole, parts = self.folder / 'whole', self.folder / 'parts'
        run(*self.TRAIN, '--out', whole, '--epochs', 4)
        going = subprocess.Popen([PROGRAM, *map(str, [*self.TRAIN, '--out', parts, '--epochs', 4, '--save-every', 1])],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while 'step' not in going.stderr.readline():
            pass
        going.send_signal(signal.SIGINT)
        said, _ = going.communicate(timeout=60)
        self.assertEqual(going.returncode, 130)
        self.assertIn('stopped and saved', said)
        self.assertEqual(json.loads(run('resume', parts, '--json').stdout)['ended'], 'finished')
        self.assertEqual(*((folder / 'student' / 'model.safetensors').read_bytes() for folder in (whole, parts)))
        self.assertIn('none', run('resume', self.folder / 'none', status=3).stderr)

    def test_interrupted_at_random(self):
        """However often it is interrupted, killed among it, a run ends as one that was left alone; nobody else may have its folder."""
        whole, parts = self.folder / 'undisturbed', self.folder / 'disturbed'
        words = ['--epochs', 12, '--save-every', 1]
        began = time.monotonic()
        run(*self.TRAIN, '--out', whole, *words)
        length = time.monotonic() - began
        seed = random.randrange(1 << 30)
        print(f'moments from seed {seed}')
        moments, ends = random.Random(seed), []
        while 0 not in ends:
            there = any(parts.glob('state*.safetensors'))
            going = subprocess.Popen([PROGRAM, *map(str, ['resume', parts] if there else [*self.TRAIN, '--out', parts, *words])],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(moments.uniform(0, length * .6))
            signal_sent = moments.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
            going.send_signal(signal_sent)
            said = going.communicate(timeout=60)[0]
            self.assertIn(going.returncode, [0, 130, -signal_sent], said)
            if going.returncode == 130:
                self.assertIn('stopped and saved', said)
            ends.append(going.returncode)
            self.assertLess(len(ends), 60)
        self.assertEqual(*((folder / 'student' / 'model.safetensors').read_bytes() for folder in (whole, parts)))

    def test_folder_in_use(self):
        busy = self.folder / 'busy'
        going = subprocess.Popen([PROGRAM, *map(str, [*self.TRAIN, '--out', busy, '--epochs', 1000])], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        while 'step' not in going.stderr.readline():
            pass
        self.assertIn('another trainer', run('resume', busy, status=1).stderr)
        self.assertIn('another trainer', run(*self.TRAIN, '--out', busy, status=1).stderr)
        going.kill()
        going.communicate()
        self.assertEqual(json.loads(run('resume', busy, '--epochs', 1, '--json').stdout)['ended'], 'finished')

    def test_eval(self):
        got = json.loads(run('eval', self.made, *self.DATA, *self.SIZES, '--json').stdout)
        told = json.loads(self.done.stdout)
        best = run('eval', self.made / 'student', *self.DATA, *self.SIZES, '--json').stdout
        self.assertEqual(json.loads(best)['AP'], told['ap'])
        self.assertEqual(got['AP'], told['best.ap'])
        self.assertLessEqual({c['name'] for c in got['classes']}, {'disc', 'square', 'triangle'})
        self.assertIn('split', run('eval', self.made, *self.DATA, '--split', 'x', status=2).stderr)
        self.assertIn('cannot open', run('eval', self.folder / 'x', *self.DATA, status=3).stderr)

    def test_predict(self):
        out = self.folder / 'found'
        told = json.loads(run('predict', self.made, *self.DATA, *self.SIZES, '--out', out, '--score', 0, '--json').stdout)
        self.assertEqual((told['pictures'], told['drawn']), (2, 2))
        results = json.loads((out / 'results.json').read_text())
        self.assertEqual(len(results), told['detections'])
        self.assertLessEqual({'image_id', 'category_id', 'bbox', 'score'}, set(results[0]))
        whole = {'images': [{'id': r['image_id']} for r in results], 'categories': [{'id': c, 'name': str(c)} for c in range(9)],
                 'annotations': [{'id': 1, 'image_id': results[0]['image_id'], 'category_id': 1, 'bbox': [0, 0, 9, 9], 'iscrowd': 0}]}
        whole['images'] = list({i['id']: i for i in whole['images']}.values())
        (out / 'gt.json').write_text(json.dumps(whole))
        read = json.loads(run('eval', '--annotations', out / 'gt.json', '--results', out / 'results.json', '--json').stdout)
        self.assertEqual(read['left_out'], 0)
        pictures = sorted(out.glob('*.png'))
        self.assertEqual(len(pictures), 2)
        self.assertEqual(pictures[0].read_bytes()[:8], b'\x89PNG\r\n\x1a\n')
        one = json.loads(run('predict', self.made, '--data', pictures[0], *self.SIZES, '--out', out / 'one', '--json').stdout)
        self.assertEqual(one['pictures'], 1)
        self.assertIn('--data', run('predict', self.made, status=2).stderr)
        self.assertIn('--score', run('predict', self.made, *self.DATA, '--out', out, '--score', 'x', status=2).stderr)
        self.assertIn('cannot make', run('predict', self.made, *self.DATA, '--out', out / 'a' / 'b', status=3).stderr)

    def test_info(self):
        got = json.loads(run('info', self.made, '--json', '--layers', '--size', '64x64').stdout)
        self.assertEqual(got['classes'], ['disc', 'square', 'triangle'])
        self.assertEqual(sum(math.prod(layer['shape']) for layer in got['layers'] if layer['trained']), got['parameters']['trained'])
        self.assertAlmostEqual(sum(v for k, v in got['macs'].items() if k != 'total'), got['macs']['total'], delta=1)
        published = json.loads(run('info', 'deformable_detr:r50,neck-bias=0', '--json').stdout)
        self.assertEqual(published['parameters']['trained'], 39843414)
        self.assertAlmostEqual(published['macs']['total'] / 1e9, 195.262, delta=5e-4)
        for backbone, trained, macs in (('r50', 43193174, 95.322), ('r101', 62133078, 171.395)):
            published = json.loads(run('info', 'conditional_detr:' + backbone, '--json').stdout)
            self.assertEqual(published['parameters']['trained'], trained)
            self.assertAlmostEqual(published['macs']['total'] / 1e9, macs, delta=5e-4)
        self.assertIn('HEIGHTxWIDTH', run('info', self.made, '--size', '64', status=2).stderr)
        self.assertIn('trained', run('info', self.made, '--layers').stdout)

    def test_table3(self):
        """Parameters are exact, operations those of the printed table where it can be met (detectors 11, 12.3)."""
        known = {'AdaMixer': ([134565560, 153557688], [102.880, 178.953]), 'Deformable DETR': ([39843414, 58783318], [195.262, 271.335]),
                 'Conditional DETR': ([43193174, 62133078], [95.322, 171.395])}
        rows = json.loads(run('info', '--table3', '--json').stdout)
        self.assertEqual([row['name'] for row in rows], list(known))
        for row in rows:
            parameters, operations = known[row['name']]
            self.assertEqual(row['parameters'], parameters)
            for got, expected in zip(row['macs'], operations):
                self.assertAlmostEqual(got / 1e9, expected, delta=5.1e-4)
            self.assertEqual(row['distillation'], sum(row['terms'].values()))
            self.assertAlmostEqual(row['share'], 100 * row['distillation'] / (sum(row['macs']) + row['distillation']), 9)
            # The printed shares are those of the printed figures.
            printed = row['published']
            self.assertAlmostEqual(printed['share'], 100 * printed['distillation'] / (sum(printed['gmacs']) + printed['distillation']), delta=.011)
        # The prior group by hand: per query and layer sampling offsets and attention weights, output, FFN, ReLU, norms, heads.
        N, d, K = 300, 256, 80
        layer = d * 384 + d * d + 2 * d * 1024 + 1024 + 1536 + d * K + 2 * d * d + 1024 + 512
        self.assertEqual(rows[1]['terms']['prior'], 6 * N * layer + 512 * N)
        self.assertIn('share', run('info', '--table3').stdout)
        self.assertIn('or --table3', run('info', status=2).stderr)
        self.assertIn('or --table3', run('info', '--table3', self.made, status=2).stderr)

    def test_plan(self):
        words = ['plan', '--student', self.STUDENT, '--size', '64x64', '--batch', 2, '--json']
        alone = json.loads(run(*words).stdout)
        both = json.loads(run(*words, '--teacher', self.made).stdout)
        parts = ['activations', 'parameters', 'gradients', 'moments']
        self.assertEqual(alone['bytes'], sum(alone['student'][p] for p in parts))
        shared = min(both['student']['activations'], both['teacher']['activations'])  # the teacher runs in the student's memory
        self.assertEqual(both['bytes'], alone['bytes'] + sum(both['teacher'][p] for p in parts) - shared)
        self.assertEqual(both['teacher']['gradients'], 0)
        self.assertGreater(both['seconds'], 0)
        self.assertIn('--student', run('plan', status=2).stderr)
        self.assertIn('--size', run('plan', '--student', self.STUDENT, '--size', 'x', status=2).stderr)

    def test_doctor(self):
        words = ['doctor', *self.DATA, '--teacher', self.made, '--student', self.STUDENT, *self.SIZES]
        got = json.loads(run(*words, '--json').stdout)
        told = json.loads(self.done.stdout)
        self.assertEqual(got['teacher']['AP'], told['best.ap'])
        self.assertEqual(got['classes']['pairs'], [[name] * 2 for name in ['disc', 'square', 'triangle']])
        self.assertEqual((got['data']['images'], got['gradient'].pop('pictures')), (6, 2))
        self.assertEqual(set(got['gradient']), {'det', 'logits', 'features', 'prior'})
        self.assertAlmostEqual(sum(term['share'] for term in got['gradient'].values()), 1)
        self.assertGreater(got['memory']['bytes'], 1e6)
        self.assertIn('share', run(*words).stdout)
        other = ['doctor', '--data', self.SCENES.replace('classes=3', 'classes=2'), '--teacher', self.made, *self.SIZES]
        self.assertIn('classes', json.loads(run(*other, '--json').stdout)['advice'][-1])
        self.assertIn('--teacher is missing', run('doctor', *self.DATA, status=2).stderr)
        self.assertIn('cannot open', run('doctor', *self.DATA, '--teacher', self.folder / 'x', status=3).stderr)

    def test_distillation(self):
        """With a teacher every term has a column; kd=off is the run without one."""
        runs = {name: self.folder / f'kd-{name}' for name in ['on', 'off', 'alone']}
        run(*self.TRAIN, '--out', runs['on'], '--epochs', 1, '--teacher', self.made)
        run(*self.TRAIN, '--out', runs['off'], '--epochs', 1, '--teacher', self.made, '--kd', 'off')
        run(*self.TRAIN, '--out', runs['alone'], '--epochs', 1)
        lines = [json.loads(line) for line in (runs['on'] / 'log.jsonl').read_text().splitlines()]
        for term in ['det', 'logits', 'features', 'prior']:
            self.assertGreater(lines[0][f'loss.{term}'], 0)
        self.assertEqual(*((runs[name] / 'student' / 'model.safetensors').read_bytes() for name in ['off', 'alone']))
        self.assertNotEqual(*((runs[name] / 'student' / 'model.safetensors').read_bytes() for name in ['on', 'alone']))
        self.assertIn('profile', run(*self.TRAIN, '--out', self.folder / 'none', '--teacher', self.made, '--kd', 'profile=x', status=2).stderr)

    def test_convert(self):
        """One file without its configuration: shapes tell all but the heads."""
        out = self.folder / 'converted'
        told = json.loads(run('convert', self.made / 'student' / 'model.safetensors', out, '--heads', 2, '--names', 'a,b,c', '--json').stdout)
        self.assertEqual(told['classes'], 3)
        self.assertEqual(json.loads(run('info', out, '--json').stdout)['classes'], ['a', 'b', 'c'])
        self.assertEqual((out / 'model.safetensors').read_bytes()[-4096:], (self.made / 'student' / 'model.safetensors').read_bytes()[-4096:])
        self.assertIn('2 names', run('convert', self.made, out, '--names', 'a,b', status=2).stderr)
        self.assertIn('CHECKPOINT', run('convert', out, status=2).stderr)
        self.assertIn('cannot open', run('convert', self.folder / 'x.pth', out, status=3).stderr)
        (self.folder / 'bad.pth').write_bytes(b'\x80\x02garbage')
        self.assertIn('bad.pth', run('convert', self.folder / 'bad.pth', out, status=3).stderr)

    def test_convert_to(self):
        """To another program's names and back: the same bits."""
        there, again = self.folder / 'there.safetensors', self.folder / 'again.safetensors'
        for names in ['official', 'huggingface']:
            told = json.loads(run('convert', self.made / 'student', there, '--to', names, '--json').stdout)
            self.assertEqual(told['file'], str(there))
            run('convert', there, again, '--to', names, '--heads', 2)
            self.assertEqual(there.read_bytes(), again.read_bytes())
        self.assertIn('official, mmdet2, mmdet3', run('convert', self.made, there, '--to', 'x', status=2).stderr)
        self.assertIn('neck', run('convert', self.made, there, '--to', 'mmdet3', status=5).stderr)
        self.assertIn('--coco-ids goes with --to', run('convert', self.made, there, '--coco-ids', status=2).stderr)

    def test_plot(self):
        alone, both = run('plot', self.made).stdout, self.folder / 'both.svg'
        ElementTree.fromstring(alone)
        run('plot', self.made, self.made, '--column', 'loss.det', '--out', both)
        self.assertEqual(both.read_text().count('class="c"'), 2)
        self.assertIn('no column', run('plot', self.made, '--column', 'x', status=3).stderr)
        self.assertIn('metrics.csv', run('plot', self.folder / 'x', status=3).stderr)


if __name__ == '__main__':
    unittest.main()
