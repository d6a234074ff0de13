/* SPDX-License-Identifier: Apache-2.0
 * The program: finds the verb. Built on the public headers alone. */
#include "arguments.h"

#include <detrdistill/detrdistill.h>
#include <stdio.h>
#include <string.h>

const option no_options[] = {{NULL, NULL, NULL, NULL}};

static int run_version(const verb *v, const char *const *values)
{
    printf("detrdistill %s\n", dd_version());
    return EXIT_DONE;
}

const verb verbs[] = {
    {"eval", "average precision of detections against annotations",
     "Computes COCO's twelve numbers, or Pascal VOC's average precision, from files; no model is needed.\n"
     "  detrdistill eval --annotations instances_val2017.json --results detections.json\n"
     "  detrdistill eval --voc VOCdevkit/VOC2007 --split test --results detections.json --points all\n"
     "Results are a JSON list of {\"image_id\", \"category_id\", \"bbox\": [x,y,w,h], \"score\"}. For VOC, image_id is\n"
     "the picture's file name without its ending, and category_id the class name (or its place in the alphabet from 1).",
     eval_options, run_eval, NULL},
    {"completion", "a shell's completion script",
     "Writes a script that completes verbs and options:\n  eval \"$(detrdistill completion bash)\"", no_options, run_completion,
     "bash|zsh|fish"},
    {"manual", "the manual page, for man(1)", "Writes the manual page:\n  detrdistill manual | man -l -", no_options,
     run_manual, NULL},
    {"version", "the library's version", "Writes the version of the library.", no_options, run_version, NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};

int main(int count, char **words)
{
    if (count < 2) {
        print_overview();
        return EXIT_USAGE;
    }
    if (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0 || strcmp(words[1], "help") == 0) {
        print_overview();
        return EXIT_DONE;
    }
    const verb *v = find_verb(strcmp(words[1], "--version") == 0 ? "version" : words[1]);
    if (!v) {
        const char *nearest = nearest_verb(words[1]);
        return nearest ? complain(EXIT_USAGE, NULL, "unknown verb '%s'; did you mean %s?", words[1], nearest)
                       : complain(EXIT_USAGE, NULL, "unknown verb '%s'; detrdistill --help lists them", words[1]);
    }
    const int code = run_verb(v, count - 2, words + 2);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return complain(EXIT_FAILED, v->name, "the output could not be written");
    }
    return code;
}
