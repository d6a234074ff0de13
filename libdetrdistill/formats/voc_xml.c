/* SPDX-License-Identifier: Apache-2.0
 * Pascal VOC annotations, through expat. */
#include "formats/voc_xml.h"
#include "base/error.h"
#include "base/limits.h"

#include <expat.h>
#include <string.h>

enum { DEEPEST = 16, LARGEST_FILE = 16 << 20, TEXT = 256 };

typedef struct reader {
    ddi_voc_annotation *out;
    const char *file;
    XML_Parser parser;
    char element[DEEPEST][32];
    int32_t depth;
    char text[TEXT]; /* of the innermost element */
    size_t length;
    int32_t corners; /* bits: which of the four were read */
    dd_status status;
} reader;

static void fail(reader *r, dd_status status, const char *what)
{
    if (r->status == DD_OK) {
        r->status =
            ddi_fail(status, r->file, "%s: line %lld: %s", r->file, (long long)XML_GetCurrentLineNumber(r->parser), what);
    }
    XML_StopParser(r->parser, XML_FALSE);
}

/* Whether the innermost elements are annotation/a[/b[/c]]. */
static bool at(const reader *r, const char *a, const char *b, const char *c)
{
    const char *want[] = {a, b, c};
    const int32_t depth = 1 + (a != NULL) + (b != NULL) + (c != NULL);
    if (r->depth != depth || strcmp(r->element[0], "annotation") != 0) {
        return false;
    }
    for (int32_t i = 1; i < depth; i++) {
        if (strcmp(r->element[i], want[i - 1]) != 0) {
            return false;
        }
    }
    return true;
}

static void add_object(reader *r)
{
    ddi_voc_annotation *a = r->out;
    if (a->objects == DDI_MAX_BOXES) {
        fail(r, DD_ERR_LIMIT, "more than 16384 objects");
        return;
    }
    if (a->objects == a->room) {
        const int32_t room = a->room ? 2 * a->room : 16;
        ddi_voc_object *object = ddi_realloc(a->allocator, a->object, (size_t)room * sizeof *object);
        if (!object) {
            r->status = ddi_fail_nomem((uint64_t)room * sizeof *object, "objects of an annotation");
            XML_StopParser(r->parser, XML_FALSE);
            return;
        }
        a->object = object;
        a->room = room;
    }
    a->object[a->objects++] = (ddi_voc_object){0};
    r->corners = 0;
}

static void on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
    reader *r = user;
    const size_t length = strlen(name);
    if (r->depth == DEEPEST || length >= sizeof r->element[0]) {
        fail(r, DD_ERR_FORMAT, "elements are nested too deeply or have too long names");
        return;
    }
    memcpy(r->element[r->depth++], name, length + 1);
    r->length = 0;
    if (r->depth == 1 && strcmp(name, "annotation") != 0) {
        fail(r, DD_ERR_FORMAT, "the outermost element is not <annotation>");
    } else if (at(r, "object", NULL, NULL)) {
        add_object(r);
    }
}

static void on_text(void *user, const XML_Char *text, int length)
{
    reader *r = user;
    if (r->length + (size_t)length < TEXT) {
        memcpy(r->text + r->length, text, (size_t)length);
        r->length += (size_t)length;
    } else {
        r->length = TEXT; /* too long for anything that is read: an error where it matters */
    }
}

/* Decimal digits with a sign and a fraction, in any locale. */
static bool number_of(const char *text, double *value)
{
    const bool negative = *text == '-';
    double whole = 0, place = 1;
    int32_t digits = 0;
    for (text += negative || *text == '+'; *text >= '0' && *text <= '9'; text++, digits++) {
        whole = 10 * whole + (*text - '0');
    }
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++, digits++) {
            whole = 10 * whole + (*text - '0');
            place *= 10;
        }
    }
    *value = (negative ? -whole : whole) / place;
    return digits > 0 && digits < 30 && *text == '\0';
}

static bool take_name(reader *r, char *to, size_t size)
{
    if (r->length >= size) {
        fail(r, DD_ERR_FORMAT, "a name is too long");
        return false;
    }
    memcpy(to, r->text, r->length + 1);
    return true;
}

static void take_number(reader *r, double low, double high, double *value)
{
    if (!number_of(r->text, value) || *value < low || *value > high) {
        fail(r, DD_ERR_FORMAT, "a number is missing, damaged or out of range");
    }
}

static void take_side(reader *r, int32_t *side)
{
    double value = 0;
    take_number(r, 0, DDI_MAX_MAP_SIDE, &value);
    *side = (int32_t)value;
}

static void take_corner(reader *r, ddi_voc_object *o)
{
    static const char *const name[] = {"xmin", "ymin", "xmax", "ymax"};
    for (int32_t i = 0; i < 4; i++) {
        if (at(r, "object", "bndbox", name[i])) {
            take_number(r, -1e6, 1e6, &o->corner[i]);
            r->corners |= 1 << i;
        }
    }
}

static void finish_object(reader *r, ddi_voc_object *o)
{
    if (r->corners != 15 || !o->name[0]) {
        fail(r, DD_ERR_FORMAT, "an object lacks its name or a corner of its bndbox");
        return;
    }
    for (int32_t i = 0; i < 2; i++) {
        if (o->corner[i] > o->corner[i + 2]) {
            const double low = o->corner[i + 2];
            o->corner[i + 2] = o->corner[i];
            o->corner[i] = low;
            o->swapped = true;
        }
    }
}

static void trim(reader *r)
{
    size_t start = 0;
    while (r->length > 0 && r->length < TEXT && (unsigned char)r->text[r->length - 1] <= ' ') {
        r->length--;
    }
    while (start < r->length && r->length < TEXT && (unsigned char)r->text[start] <= ' ') {
        start++;
    }
    r->length -= start;
    memmove(r->text, r->text + start, r->length < TEXT ? r->length : 0);
    r->text[r->length < TEXT ? r->length : 0] = '\0';
}

static void on_end(void *user, const XML_Char *name)
{
    reader *r = user;
    ddi_voc_annotation *a = r->out;
    ddi_voc_object *o = a->objects > 0 ? &a->object[a->objects - 1] : NULL;
    trim(r);
    if (at(r, "filename", NULL, NULL)) {
        take_name(r, a->filename, sizeof a->filename);
    } else if (at(r, "size", "width", NULL)) {
        take_side(r, &a->width);
    } else if (at(r, "size", "height", NULL)) {
        take_side(r, &a->height);
    } else if (o && at(r, "object", "name", NULL)) {
        take_name(r, o->name, sizeof o->name);
    } else if (o && at(r, "object", "difficult", NULL)) {
        double value = 0;
        take_number(r, 0, 1, &value);
        o->difficult = value != 0;
    } else if (o && at(r, "object", NULL, NULL)) {
        finish_object(r, o);
    } else if (o) {
        take_corner(r, o);
    }
    r->depth--;
    r->length = 0;
}

static void on_doctype(void *user, const XML_Char *name, const XML_Char *system, const XML_Char *public_id, int internal)
{
    fail(user, DD_ERR_FORMAT, "a document type declaration has no place in an annotation");
}

static dd_status parse(reader *r, const void *text, size_t size)
{
    XML_SetUserData(r->parser, r);
    XML_SetElementHandler(r->parser, on_start, on_end);
    XML_SetCharacterDataHandler(r->parser, on_text);
    XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
    if (XML_Parse(r->parser, text, (int)size, 1) == XML_STATUS_OK || r->status != DD_OK) {
        return r->status;
    }
    const enum XML_Error error = XML_GetErrorCode(r->parser);
    if (error == XML_ERROR_NO_MEMORY) {
        return ddi_fail_nomem(size, "reading an annotation");
    }
    return ddi_fail(DD_ERR_FORMAT, r->file, "%s: line %lld: %s", r->file, (long long)XML_GetCurrentLineNumber(r->parser),
                    XML_ErrorString(error));
}

dd_status ddi_voc_read(ddi_voc_annotation *a, ddi_allocator *allocator, const char *file, const void *text, size_t size)
{
    *a = (ddi_voc_annotation){.allocator = allocator};
    if (size > LARGEST_FILE) {
        return ddi_fail(DD_ERR_LIMIT, file, "%s: an annotation has at most 16 MiB", file);
    }
    reader r = {.out = a, .file = file, .parser = ddi_fault() ? NULL : XML_ParserCreate(NULL)};
    if (!r.parser) {
        return ddi_fail_nomem(size, "an XML parser");
    }
    const dd_status status = parse(&r, text, size);
    XML_ParserFree(r.parser);
    if (status != DD_OK) {
        ddi_voc_free(a);
    }
    return status;
}

void ddi_voc_free(ddi_voc_annotation *a)
{
    ddi_free(a->allocator, a->object);
    a->object = NULL;
    a->objects = a->room = 0;
}
