/* SPDX-License-Identifier: Apache-2.0
 * Made by make_files.py with Pillow: name, size, hash of the pixels, hash of the pixels at 61 x 37. */
{"baseline.jpg", 40, 28, 0x717e528263975d7c, 0xd4050818102e8b5a},
    {"progressive.jpg", 40, 28, 0x717e528263975d7c, 0xd4050818102e8b5a},
    {"grey.jpg", 40, 28, 0x62e84d867e4d5c00, 0xe1401c33aa48baf2}, {"full.jpg", 40, 28, 0x3dea5ae7fa129317, 0x9694e572d83885f7},
    {"turned.jpg", 28, 40, 0x9aa668005bcf4a4e, 0x948acce2f9ee4031},
    {"mirrored.jpg", 40, 28, 0xed88e3c321bca532, 0x7a8b91e0e277d3f2},
    {"colour.png", 40, 28, 0xdcb1d95f2213013c, 0x58f05340b35dc9b9},
    {"alpha.png", 40, 28, 0xdcb1d95f2213013c, 0x58f05340b35dc9b9},
    {"palette.png", 40, 28, 0x4f413ffe43e5a798, 0xe2f169ab802e2b8b},
    {"grey16.png", 40, 28, 0xeb383a089f4393e2, 0xc7b191497f6e3be9}, {"one.png", 40, 28, 0xf303015f041846da, 0x902133cc8bbfdde1},
