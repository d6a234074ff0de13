/* SPDX-License-Identifier: Apache-2.0
 * The program: finds the verb. Built on the public headers alone. */
#include "arguments.h"

#include <detrdistill/detrdistill.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const option no_options[] = {{NULL, NULL, NULL, NULL}};

static int run_version(const verb *v, const char *const *values)
{
    printf("detrdistill %s\n", dd_version());
    return EXIT_DONE;
}

const verb verbs[] = {
    {"train", "trains a student, with a teacher or alone",
     "Trains a student on a folder of labelled pictures and keeps the run in a folder: checkpoints, logs, curves, the best\n"
     "student. Ctrl-C saves and stops, 'resume' goes on. Three names are enough:\n"
     "  detrdistill train --data VOCdevkit --teacher r101/ --student deformable_detr:r50 --out run1\n"
     "  detrdistill train --data coco/ --student deformable_detr:r18,queries=100,decoder-layers=3 --out run2 --epochs 12\n"
     "The student is FAMILY:BACKBONE (deformable_detr, conditional_detr, adamixer, dino; r18, r50, r101) and words of its\n"
     "architecture behind commas, or a folder. With --kd off the same run goes without the teacher. Out of memory: --batch 1\n"
     "--accumulate 2, smaller --sizes.",
     train_options, run_train, NULL, 0, 0},
    {"recipes", "the published runs that train knows",
     "Lists the recipes, or writes one: the options of a row of the published tables, what is published of it and what is not\n"
     "known. 'train' starts it; options that are given beside it win. With --scale tiny it runs on generated scenes:\n"
     "  detrdistill recipes table3-deformable\n"
     "  detrdistill train --recipe table3-deformable --data coco/ --teacher r101/ --backbone resnet50.pth --out run1\n"
     "  detrdistill train --recipe table3-deformable --scale tiny --steps 2 --out try",
     recipes_options, run_recipes, "[NAME|FILE]", 0, 1},
    {"resume", "goes on with a run",
     "Goes on from the newest whole checkpoint; what follows is bit for bit what would have followed. Options change the "
     "rest:\n"
     "  detrdistill resume run1 --epochs 80",
     resume_options, run_resume, "RUN", 1, 1},
    {"eval", "average precision of a model, or of detections in a file",
     "Computes COCO's twelve numbers of a model on a data set; from files also Pascal VOC's average precision:\n"
     "  detrdistill eval run1 --data coco/\n"
     "  detrdistill eval --annotations instances_val2017.json --results detections.json\n"
     "  detrdistill eval --voc VOCdevkit/VOC2007 --split test --results detections.json --points all\n"
     "Results are a JSON list of {\"image_id\", \"category_id\", \"bbox\": [x,y,w,h], \"score\"}. For VOC, image_id is\n"
     "the picture's file name without its ending, and category_id the class name (or its place in the alphabet from 1).",
     eval_options, run_eval, "[MODEL]", 0, 1},
    {"predict", "detections as pictures with boxes and as JSON",
     "Runs a model (a Hugging Face folder, or a run) over pictures; writes each as PNG with boxes and all detections as COCO\n"
     "results, which 'eval' reads:\n"
     "  detrdistill predict run1 --data street.jpg --out found",
     predict_options, run_predict, "MODEL", 1, 1},
    {"info", "layers, parameters and operations of a model",
     "Counts what a model needs. MODEL is a folder, a run, or a name that 'train --student' takes:\n"
     "  detrdistill info deformable_detr:r101 --size 800x1280\n"
     "With --table3 the pairs of the paper's cost table: parameters that are trained, multiply-adds (a convolution, a linear\n"
     "layer, norms and ReLU as modules, as mmcv counts them) and those of distillation, term by term: the prior group takes\n"
     "what a model with twice the queries takes more; similarity is one product of the features with each stage's summed\n"
     "queries, for the map is linear in them; the feature loss reads both maps once; logits compare all pairs of queries.",
     info_options, run_info, "[MODEL]", 0, 1},
    {"doctor", "will distillation help here?",
     "Looks at the data, the teacher's AP on it, how their classes fit, the memory of a step, and what share each term of\n"
     "distillation has in a student's gradient; then says what stands against a run:\n"
     "  detrdistill doctor --data VOCdevkit --teacher r101/",
     doctor_options, run_doctor, NULL, 0, 0},
    {"plan", "memory and time of a step before it runs",
     "Computes what a training step needs for the largest batch; nothing is trained. The time is that of a pass that is\n"
     "measured here, scaled:\n"
     "  detrdistill plan --student deformable_detr:r50 --teacher deformable_detr:r101 --size 800x1333 --batch 1",
     plan_options, run_plan, NULL, 0, 0},
    {"convert", "checkpoints of other programs, read and written",
     "Reads .pth (as data: nothing in it is run) or .safetensors of the official programs or mmdetection 2 and 3, and writes\n"
     "config.json and model.safetensors, which transformers and every verb here load:\n"
     "  detrdistill convert r50_deformable_detr-checkpoint.pth teacher --coco 1\n"
     "With --to, the other way: a folder or a run becomes a .safetensors file with that program's names (for torch.save:\n"
     "torch.save({'state_dict': safetensors.torch.load_file(FILE)}, ..); the official programs' key is 'model'):\n"
     "  detrdistill convert run1 student.safetensors --to mmdet3",
     convert_options, run_convert, "CHECKPOINT OUT", 2, 2},
    {"plot", "curves of runs as SVG",
     "Draws losses, learning rate and AP of a run, or one column of several runs:\n"
     "  detrdistill plot run1 > curves.svg\n"
     "  detrdistill plot run1 run2 --column ap50 --out ap50.svg",
     plot_options, run_plot, "RUN..", 1, MOST_OPERANDS},
    {"verify", "are this machine's kernels right?",
     "Runs a training step of small detectors, three ways of distillation, on every kind of kernels that this machine can run, "
     "and\n"
     "compares losses, outputs and gradients with stored numbers of the float64 reference. A bad driver, library or compiler\n"
     "shows here in seconds:\n  detrdistill verify",
     verify_options, run_verify, NULL, 0, 0},
    {"completion", "a shell's completion script",
     "Writes a script that completes verbs and options:\n  eval \"$(detrdistill completion bash)\"", no_options, run_completion,
     "bash|zsh|fish", 1, 1},
    {"manual", "the manual page, for man(1)", "Writes the manual page:\n  detrdistill manual | man -l -", no_options,
     run_manual, NULL, 0, 0},
    {"version", "the library's version", "Writes the version of the library.", no_options, run_version, NULL, 0, 0},
    {NULL, NULL, NULL, NULL, NULL, NULL, 0, 0},
};

/* The OpenMP library lets a thread spin for up to 15 ms before it sleeps: where something else runs on its core, each of a
 * step's many loops takes that long. A thousand turns, 50 us, are enough to find the next loop on a quiet machine. */
static void wait_briefly(void)
{
    if (!getenv("OMP_WAIT_POLICY")) {
        setenv("GOMP_SPINCOUNT", "1000", 0);
    }
}

int main(int count, char **words)
{
    wait_briefly();
    take_library_options(train_options, "trainer", OF_TRAINER, " threads resume ");
    take_library_options(resume_options, "trainer", OF_TRAINER, " threads resume ");
    take_library_options(convert_options, "model", OF_MODEL, " training gradients ");
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
