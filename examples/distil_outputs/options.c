/* SPDX-License-Identifier: Apache-2.0
 * The command line and its explanation. */
#include "options.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void options_help(void)
{
    puts("usage: distil_outputs [--data FILE.safetensors --ground-truth FILE.json] [options]\n"
         "\n"
         "Shows what libdetrdistill does for a training program: it takes the outputs of a teacher and of a\n"
         "student detector on the same pictures and lets the student learn from the teacher. There is no\n"
         "network here: the student's logits and boxes are themselves the parameters, moved by AdamW along\n"
         "the gradients that the library writes. Without --data a small case is made up.\n"
         "\n"
         "  --data FILE          safetensors, f32: TEACHER.pred_logits [pictures,queries,classes] (before\n"
         "                       the sigmoid), TEACHER.pred_boxes [pictures,queries,4] (cx,cy,w,h in\n"
         "                       0..1), and the same of STUDENT\n"
         "  --ground-truth FILE  JSON: {\"image_order\": [id, ..],\n"
         "                       \"results\": {NAME: [{\"image_id\", \"labels\", \"boxes_cxcywh\"}, ..]}}\n"
         "  --teacher NAME       prefix of the teacher's tensors (femto)\n"
         "  --student NAME       prefix of the student's tensors (atto)\n"
         "  --labels             learn from the objects, too (the student's own detection loss); without\n"
         "                       it they only judge, and tell the teacher's positive queries\n"
         "  --joint              match all teacher queries at once; without it positives first, then\n"
         "                       negatives (the paper's two matchings)\n"
         "  --steps N            steps of training (300)\n"
         "  --lr X               step size of the logits (0.05)\n"
         "  --box-lr X           step size of the boxes, before their sigmoid (0.02)\n"
         "  --seed N             seed of the made-up case (1)\n"
         "  --device NAME        cpu, or ref: the plain C kernels (cpu where the module is there)\n"
         "  --out DIR            where curves.svg and terms.csv go (demo-out)\n"
         "  --help               this text\n"
         "\n"
         "The table has the loss terms as the library names them: logits.* teach the student the teacher's\n"
         "scores and boxes (logits.class ends at the entropy of the teacher's scores, not at 0), det.* come\n"
         "with --labels. Then:\n"
         "  partners  student queries whose teacher query is the one of the step before\n"
         "  objects   objects whose matched student query has the right class on top and IoU >= 0.5\n"
         "  AP        COCO average precision of the 100 best (query, class) entries of a picture. Pictures\n"
         "            are taken as 640 x 640, which AP does not depend on; AP by object size would, so it\n"
         "            is not printed.\n"
         "\n"
         "Ctrl-C ends early and keeps the results. Status: 0 good, 2 wrong arguments, 3 a file cannot be\n"
         "read or written, 4 the library failed, 130 ended early.");
}

static bool complain(const char *option, const char *what)
{
    fprintf(stderr, "distil_outputs: %s: %s; see --help\n", option, what);
    return false;
}

static bool whole_number(const char *option, const char *text, int64_t low, int64_t high, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end || number < low || number > high) {
        fprintf(stderr, "distil_outputs: %s: \"%s\" is no whole number from %lld to %lld; see --help\n", option, text,
                (long long)low, (long long)high);
        return false;
    }
    *value = number;
    return true;
}

static bool step_size(const char *option, const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number) || number < 0 || number > 100)
        return complain(option, "needs a number from 0 to 100");
    *value = number;
    return true;
}

/* An option with a value. */
static bool set_value(options *o, const char *option, const char *value)
{
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"--data", &o->data},       {"--ground-truth", &o->ground_truth},
                 {"--teacher", &o->teacher}, {"--student", &o->student},
                 {"--out", &o->out},         {"--device", &o->device}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(option, texts[i].name) == 0) {
            *texts[i].text = value;
            return *value || complain(option, "is empty");
        }
    }
    if (strcmp(option, "--steps") == 0)
        return whole_number(option, value, 1, 100000, &o->steps);
    if (strcmp(option, "--seed") == 0)
        return whole_number(option, value, 0, INT64_MAX, &o->seed);
    if (strcmp(option, "--lr") == 0)
        return step_size(option, value, &o->rate);
    if (strcmp(option, "--box-lr") == 0)
        return step_size(option, value, &o->box_rate);
    return complain(option, "unknown option");
}

bool options_parse(options *o, int argc, char **argv)
{
    *o = (options){
        .teacher = "femto", .student = "atto", .out = "demo-out", .steps = 300, .seed = 1, .rate = .05, .box_rate = .02};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            o->help = true;
        else if (strcmp(argv[i], "--labels") == 0)
            o->labels = true;
        else if (strcmp(argv[i], "--joint") == 0)
            o->joint = true;
        else if (strncmp(argv[i], "--", 2) != 0)
            return complain(argv[i], "options start with --");
        else if (i + 1 == argc)
            return complain(argv[i], "unknown option, or its value is missing");
        else if (!set_value(o, argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    if (!o->data != !o->ground_truth)
        return complain(o->data ? "--data" : "--ground-truth", "--data and --ground-truth go together");
    return true;
}
