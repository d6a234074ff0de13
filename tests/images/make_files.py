#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/images/files/ and files.inc.h with Pillow: small pictures of each kind, the FNV-1a hash of what Pillow decodes them
to (upright), and that of the picture resized to 61 x 37 (across, then down) with the bilinear filter."""

import os

import numpy
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def picture(width, height, seed):
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [128 + 100 * numpy.sin(x / (3 + c) + y / (5 - c) + seed) for c in range(3)]
    return Image.fromarray(numpy.stack(waves, -1).astype(numpy.uint8))


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def main():
    os.makedirs(os.path.join(HERE, 'files'), exist_ok=True)
    colour = picture(40, 28, 1)
    alpha = colour.convert('RGBA')
    alpha.putalpha(colour.convert('L'))
    wide = Image.fromarray((numpy.asarray(colour.convert('L')).astype(numpy.uint16) * 2))
    files = [('baseline.jpg', colour, {}), ('progressive.jpg', colour, {'progressive': True}), ('grey.jpg', colour.convert('L'), {}),
             ('full.jpg', colour, {'subsampling': 0}), ('turned.jpg', colour, {'exif': turned(6)}),
             ('mirrored.jpg', colour, {'exif': turned(2)}), ('colour.png', colour, {}), ('alpha.png', alpha, {}),
             ('palette.png', colour.quantize(13), {'bits': 4, 'transparency': 2}), ('grey16.png', wide, {}), ('one.png', colour.convert('1'), {})]
    rows = []
    for name, image, options in files:
        path = os.path.join(HERE, 'files', name)
        image.save(path, **options)
        upright = ImageOps.exif_transpose(Image.open(path)).convert('RGB')
        small = upright.resize((61, upright.height), Image.BILINEAR).resize((61, 37), Image.BILINEAR)
        rows.append(f'    {{"{name}", {upright.width}, {upright.height}, 0x{fnv(upright.tobytes()):016x}, 0x{fnv(small.tobytes()):016x}}},\n')
    colour.convert('CMYK').save(os.path.join(HERE, 'files', 'cmyk.jpg'))
    with open(os.path.join(HERE, 'files.inc.h'), 'w', encoding='utf-8') as file:
        file.write('/* SPDX-License-Identifier: Apache-2.0\n * Made by make_files.py with Pillow: name, size, hash of the pixels, hash of '
                   'the pixels at 61 x 37. */\n')
        file.writelines(rows)


if __name__ == '__main__':
    main()
