# SPDX-License-Identifier: Apache-2.0
"""200 new random cases against pycocotools, where it is installed.

    random_against_pycocotools.py TEST_COCO [COUNT [SEED]]"""

import json
import os
import subprocess
import sys
import tempfile

try:
    import pycocotools_cases
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

count, seed = (int(word) for word in (sys.argv[2:] + ['200', '2026'][len(sys.argv) - 2:])[:2])
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'cases.json')
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(pycocotools_cases.make_cases(count, seed), file)
    sys.exit(subprocess.run([sys.argv[1], path]).returncode)
