/* SPDX-License-Identifier: Apache-2.0
 * Every limit on input from outside (docs/limits.md; reliability.md section 4). Above one: DD_ERR_LIMIT. */
#ifndef DDI_BASE_LIMITS_H
#define DDI_BASE_LIMITS_H

#include <stdint.h>

#define DDI_MAX_ELEMENTS ((int64_t)1 << 40)
#define DDI_MAX_BYTES ((int64_t)1 << 42)
#define DDI_MAX_QUERIES 16384
#define DDI_MAX_PROPOSALS 1048576 /* of an encoder, for each image */
#define DDI_MAX_BOXES 16384       /* of one image */
#define DDI_MAX_CLASSES 65536
#define DDI_MAX_STAGES 64
#define DDI_MAX_IMAGES 65536 /* of one batch */
#define DDI_MAX_LEVELS 8
#define DDI_MAX_CHANNELS 65536
#define DDI_MAX_MAP_SIDE 65500
#define DDI_MAX_THREADS 256
#define DDI_MAX_OPTIONS_BYTES 65536
#define DDI_MAX_ERROR_BYTES 256
#define DDI_MAX_LOG_BYTES 1024
#define DDI_MAX_SAFETENSORS_HEADER 100000000
#define DDI_MAX_SAFETENSORS_TENSORS 100000
#define DDI_MAX_NAME_BYTES 1024
#define DDI_MAX_IMAGE_SIDE 65500
#define DDI_MAX_PIXELS ((int64_t)1 << 28)
#define DDI_MAX_DECODER_BYTES ((int64_t)1 << 30)
#define DDI_MAX_DATASET_IMAGES ((int64_t)1 << 27)
#define DDI_MAX_PICKLE_OPCODES 1000000

#endif
