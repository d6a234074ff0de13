/* SPDX-License-Identifier: Apache-2.0
 * A made-up case: pictures with a few objects, a teacher that finds nearly all of them and a student that half knows. */
#include "case.h"

enum { PICTURES = 16, CLASSES = 10, TEACHER_QUERIES = 60, STUDENT_QUERIES = 40, MOST_OBJECTS = 6 };

/* How well a model sees. Offsets are standard deviations. */
typedef struct eyesight {
    float box;         /* offset of a box, in parts of its size */
    float sure, doubt; /* mean and offset of the right class's logit */
    float confused;    /* mean logit of a wrong class that looks alike */
    float found;       /* share of objects it sees at all */
} eyesight;

static const eyesight teacher_eyes = {.box = .04f, .sure = 2, .doubt = .7f, .confused = -3, .found = .97f};
static const eyesight student_eyes = {.box = .12f, .sure = -1, .doubt = 1, .confused = -1, .found = .8f};

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static float uniform(uint64_t *state, float low, float high)
{
    return low + (high - low) * (float)(next(state) >> 40) / (float)(1 << 24);
}

/* The sum of twelve uniform numbers is normal enough, and the same on every machine. */
static float normal(uint64_t *state, float mean, float deviation)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform(state, 0, 1);
    return mean + deviation * sum;
}

static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static void random_box(uint64_t *state, float *box)
{
    box[2] = uniform(state, .1f, .4f);
    box[3] = uniform(state, .1f, .4f);
    box[0] = uniform(state, box[2] / 2, 1 - box[2] / 2);
    box[1] = uniform(state, box[3] / 2, 1 - box[3] / 2);
}

static void see_object(uint64_t *state, const eyesight *eyes, const float *object, int32_t label, float *box, float *logits)
{
    for (int k = 0; k < 4; k++)
        box[k] = clamp(object[k] + normal(state, 0, eyes->box) * object[2 + k % 2], .02f, .98f);
    logits[label] = normal(state, eyes->sure, eyes->doubt);
    logits[(label + 1) % CLASSES] = normal(state, eyes->confused, 1);
}

/* Background everywhere, then one query for each object that is seen, at a place that has nothing to do with the object's. */
static void look(uint64_t *state, const eyesight *eyes, const distil_case *c, int64_t picture, const detections *d)
{
    float *boxes = d->boxes + picture * d->queries * 4, *logits = d->logits + picture * d->queries * CLASSES;
    for (int64_t q = 0; q < d->queries; q++) {
        random_box(state, boxes + 4 * q);
        for (int k = 0; k < CLASSES; k++)
            logits[q * CLASSES + k] = normal(state, -4.5f, 1);
    }
    int64_t query = (int64_t)(next(state) % 7), step = d->queries / (MOST_OBJECTS + 1);
    for (int32_t g = c->gt_offsets[picture]; g < c->gt_offsets[picture + 1]; g++, query += step) {
        if (uniform(state, 0, 1) < eyes->found)
            see_object(state, eyes, c->gt_boxes + 4 * g, c->gt_labels[g], boxes + 4 * query, logits + query * CLASSES);
    }
}

bool case_generate(distil_case *c, uint64_t seed)
{
    uint64_t state = seed;
    if (!case_allocate(c, PICTURES, CLASSES, TEACHER_QUERIES, STUDENT_QUERIES, PICTURES * MOST_OBJECTS))
        return false;
    c->source = "a generated case";
    c->objects = 0;
    for (int64_t b = 0; b < PICTURES; b++) {
        int count = 2 + (int)(next(&state) % (MOST_OBJECTS - 1));
        for (int i = 0; i < count; i++, c->objects++) {
            random_box(&state, c->gt_boxes + 4 * c->objects);
            c->gt_labels[c->objects] = (int32_t)(next(&state) % CLASSES);
        }
        c->gt_offsets[b + 1] = (int32_t)c->objects;
        look(&state, &teacher_eyes, c, b, &c->teacher);
        look(&state, &student_eyes, c, b, &c->student);
    }
    return true;
}
