/* SPDX-License-Identifier: Apache-2.0
 * The random streams of the data room: the `op` of Philox, one for each purpose. */
#ifndef DDI_DATA_STREAMS_H
#define DDI_DATA_STREAMS_H

enum {
    DDI_STREAM_SHUFFLE = 0x0DA70001,
    DDI_STREAM_AUGMENT = 0x0DA70002,
    DDI_STREAM_SCENE_LAYOUT = 0x0DA70003,
    DDI_STREAM_SCENE_PAINT = 0x0DA70004
};

#endif
