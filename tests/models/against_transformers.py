# SPDX-License-Identifier: Apache-2.0
"""Folders that the library writes are loaded by transformers, without a tensor missing or left over, and compute the same.

    against_transformers.py RUN_MODEL [GOLDEN_FOLDER..]
"""

import os
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault('HF_HUB_OFFLINE', '1')
try:
    import numpy
    import torch
    from safetensors.numpy import load_file, save_file
    from transformers import (AutoModelForObjectDetection, ConditionalDetrConfig, ConditionalDetrForObjectDetection, DeformableDetrConfig,
                              DeformableDetrForObjectDetection, ResNetConfig)
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

RUN_MODEL, GOLDEN = sys.argv[1], sys.argv[2:]
TINY = ('backbone=resnet-18 stem=8 depths=1,2,1,1 widths=8,16,16,32 width=32 heads=4 points=2 ffn=48 encoder-layers=2 decoder-layers=3 '
        'queries=9 classes=5 ')
VARIANTS = {'plain': '', 'refine': 'refine=1', 'shared': 'refine=1 shared-class-head=1', 'two-stage': 'refine=1 two-stage=1',
            'bottleneck': 'block=bottleneck encoder-heads=2 decoder-points=1 decoder-ffn=24', 'neck': 'neck-bias=0',
            'conditional': 'family=conditional-detr', 'conditional-bottleneck': 'family=conditional-detr block=bottleneck encoder-heads=2 decoder-ffn=24'}


def run(folder, *words):
    """Runs the program on a random batch; returns (batch, what it found, folder that it saved)."""
    random = numpy.random.default_rng(3)
    pixels = random.normal(size=(2, 3, 64, 80)).astype('float32')
    sizes = numpy.array([[80, 64], [50, 40]], dtype='int32')
    pixels[1, :, 40:, :] = 0
    pixels[1, :, :, 50:] = 0
    saved = os.path.join(folder, 'saved')
    os.mkdir(saved)
    save_file({'pixels': pixels, 'sizes': sizes}, os.path.join(folder, 'input'))
    subprocess.run([RUN_MODEL, *words, os.path.join(folder, 'input'), os.path.join(folder, 'output'), saved], check=True)
    return pixels, sizes, load_file(os.path.join(folder, 'output')), saved


class RoundTrip(unittest.TestCase):
    def compare(self, *words):
        with tempfile.TemporaryDirectory() as folder:
            pixels, sizes, found, saved = run(folder, *words)
            model, report = AutoModelForObjectDetection.from_pretrained(saved, output_loading_info=True)
        self.assertEqual([list(report[key]) for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys')], [[], [], []])
        mask = torch.zeros(2, 64, 80, dtype=torch.long)
        for image, (width, height) in enumerate(sizes):
            mask[image, :height, :width] = 1
        model.eval()
        with torch.no_grad():
            theirs = model(pixel_values=torch.from_numpy(pixels), pixel_mask=mask)
        for name, value in (('logits', theirs.logits), ('boxes', theirs.pred_boxes)):
            error = numpy.abs(found[name][-1] - value.numpy()).max() / numpy.abs(value.numpy()).max()
            self.assertLess(error, 1e-4, name)

    def test_new_models(self):
        for name, options in VARIANTS.items():
            with self.subTest(name):
                self.compare('make', TINY + options, '')

    def test_saved_by_this_transformers(self):
        backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 2, 1, 1], layer_type='basic',
                                out_features=['stage2', 'stage3', 'stage4'])
        common = dict(use_timm_backbone=False, backbone=None, backbone_config=backbone, use_pretrained_backbone=False, d_model=32,
                      encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
                      decoder_ffn_dim=24, num_queries=9, num_labels=5)
        points = dict(encoder_n_points=2, decoder_n_points=3, two_stage_num_proposals=9)
        deformable = lambda **more: DeformableDetrForObjectDetection(DeformableDetrConfig(**common, **points, **more))
        makers = {'plain': deformable, 'refine': lambda: deformable(with_box_refine=True),
                  'two-stage': lambda: deformable(with_box_refine=True, two_stage=True),
                  'conditional': lambda: ConditionalDetrForObjectDetection(ConditionalDetrConfig(**common))}
        for name, make in makers.items():
            torch.manual_seed(4)
            model = make()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=.1)
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                self.compare('load', folder, '')

    def test_golden_folders(self):
        for folder in GOLDEN:
            with self.subTest(os.path.basename(folder)):
                if 'timm' in folder:
                    continue  # its backbone has a name that timm does not know
                self.compare('load', folder, '')

    def test_checkpoint_without_configuration(self):
        """The weights of a folder alone become a folder again."""
        for folder in GOLDEN:
            if folder.endswith(('deformable_plain_basic', 'conditional_basic')):
                self.compare('load', os.path.join(folder, 'model.safetensors'), 'heads=4')

    def test_checkpoint_of_torch(self):
        for folder in GOLDEN:
            if folder.endswith(('deformable_plain_basic', 'conditional_basic')):
                state = {name: torch.from_numpy(value) for name, value in load_file(os.path.join(folder, 'model.safetensors')).items()}
                with tempfile.TemporaryDirectory() as made:
                    path = os.path.join(made, 'epoch_1.pth')
                    torch.save({'epoch': 1, 'state_dict': state}, path)
                    self.compare('load', path, 'heads=4')


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
