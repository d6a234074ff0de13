/* SPDX-License-Identifier: Apache-2.0
 * detrdistill completion, detrdistill manual: from the same tables as --help. */
#include "arguments.h"

#include <detrdistill/detrdistill.h>
#include <stdio.h>
#include <string.h>

static void print_verbs(const char *between)
{
    for (const verb *v = verbs; v->name; v++) {
        printf("%s%s", v == verbs ? "" : between, v->name);
    }
}

static void print_options(const verb *v)
{
    printf("--help");
    for (const option *o = v->options; o->name; o++) {
        printf(" %s", o->name);
    }
}

static void complete_bash(void)
{
    printf("_detrdistill()\n{\n    local word=${COMP_WORDS[COMP_CWORD]} words\n    if [ \"$COMP_CWORD\" = 1 ]; then\n"
           "        words='");
    print_verbs(" ");
    printf("'\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (const verb *v = verbs; v->name; v++) {
        printf("        %s) words='", v->name);
        print_options(v);
        printf("%s' ;;\n", strcmp(v->name, "completion") == 0 ? " bash zsh fish" : "");
    }
    printf("        *) words= ;;\n        esac\n    fi\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n}\n"
           "complete -o default -F _detrdistill detrdistill\n");
}

static void complete_zsh(void)
{
    printf("#compdef detrdistill\nautoload -U +X bashcompinit && bashcompinit\n");
    complete_bash();
}

/* Text between single quotes. */
static void print_shell_text(const char *text)
{
    for (; *text; text++) {
        printf(*text == '\'' ? "\\'" : "%c", *text);
    }
}

static void complete_fish(void)
{
    for (const verb *v = verbs; v->name; v++) {
        printf("complete -c detrdistill -n __fish_use_subcommand -f -a %s -d '", v->name);
        print_shell_text(v->summary);
        printf("'\n");
        for (const option *o = v->options; o->name; o++) {
            printf("complete -c detrdistill -n '__fish_seen_subcommand_from %s' -l %s%s -d '", v->name, o->name + 2,
                   o->argument ? " -r" : "");
            print_shell_text(o->help);
            printf("'\n");
        }
    }
    printf("complete -c detrdistill -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n");
}

int run_completion(const verb *v, const char *const *values)
{
    const char *shell = operand_of(values, 0);
    if (strcmp(shell, "bash") == 0) {
        complete_bash();
    } else if (strcmp(shell, "zsh") == 0) {
        complete_zsh();
    } else if (strcmp(shell, "fish") == 0) {
        complete_fish();
    } else {
        return complain(EXIT_USAGE, v->name, "'%s' is no shell that is known here: bash, zsh or fish", shell);
    }
    return EXIT_DONE;
}

/* Text for troff: backslashes, and dots at the beginning of a line, have a meaning there. */
static void print_troff(const char *text)
{
    for (bool begins = true; *text; text++) {
        if (begins && (*text == '.' || *text == '\'')) {
            printf("\\&");
        }
        begins = *text == '\n';
        if (*text == '\\' || *text == '-') {
            putchar('\\');
        }
        putchar(*text == '\\' ? 'e' : *text);
    }
}

int run_manual(const verb *unused, const char *const *values)
{
    printf(".TH DETRDISTILL 1 \"\" \"detrdistill %s\"\n.SH NAME\ndetrdistill \\- knowledge distillation for DETR-family "
           "detectors\n"
           ".SH SYNOPSIS\n.B detrdistill\n.I VERB\n[\\fIOPTIONS\\fR]\n.SH VERBS\n",
           dd_version());
    for (const verb *v = verbs; v->name; v++) {
        printf(".SS %s%s%s\n.nf\n", v->name, v->operand ? " " : "", v->operand ? v->operand : "");
        print_troff(v->text);
        printf("\n.fi\n");
        for (const option *o = v->options; o->name; o++) {
            printf(".TP\n\\fB");
            print_troff(o->name);
            printf("\\fR%s%s\n", o->argument ? " " : "", o->argument ? o->argument : "");
            print_troff(o->help);
            printf(o->initial ? " (%s)\n" : "\n", o->initial);
        }
    }
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong use, 3 data, 4 memory, 5 device, 130 interrupted.\n");
    return EXIT_DONE;
}
