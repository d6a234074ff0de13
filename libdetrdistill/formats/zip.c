/* SPDX-License-Identifier: Apache-2.0
 * The directory of a zip archive (APPNOTE 6.3.9, sections 4.3.7 to 4.3.16), every place in it checked. */
#include "formats/zip.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR = 20, MOST_COMMENT = 65535 };

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static bool is_mark(const unsigned char *at, unsigned char third, unsigned char fourth)
{
    return at[0] == 'P' && at[1] == 'K' && at[2] == third && at[3] == fourth;
}

static dd_status damaged(const ddi_zip *z, const char *what)
{
    return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged or cut off: as a zip archive it %s", z->path, what);
}

/* Where the directory lies, and how many members it says to have. */
typedef struct directory {
    uint64_t place, size, count;
} directory;

static const unsigned char *find_end(const ddi_zip *z)
{
    for (size_t back = END; back <= z->size && back <= END + MOST_COMMENT; back++) {
        const unsigned char *at = z->bytes + z->size - back;
        if (is_mark(at, 5, 6) && number(at + 20, 2) == back - END) {
            return at;
        }
    }
    return NULL;
}

static dd_status find_directory(const ddi_zip *z, directory *d)
{
    const unsigned char *end = find_end(z);
    if (!end) {
        return damaged(z, "has no end record");
    }
    size_t before = (size_t)(end - z->bytes);
    *d = (directory){number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
    if (before >= LOCATOR && is_mark(end - LOCATOR, 6, 7)) {
        const uint64_t place = number(end - LOCATOR + 8, 8);
        before -= LOCATOR;
        if (before < END64 || place > before - END64 || !is_mark(z->bytes + place, 6, 6)) {
            return damaged(z, "has a zip64 record outside of it");
        }
        before = (size_t)place;
        *d = (directory){number(z->bytes + place + 48, 8), number(z->bytes + place + 40, 8), number(z->bytes + place + 32, 8)};
    }
    if (d->place > before || d->size > before - d->place) {
        return damaged(z, "has its directory outside of it");
    }
    return DD_OK;
}

/* Sizes of 4 bytes that are all ones stand in the field 1 of the extra data, in this order. */
static bool widen(ddi_zip_member *m, const unsigned char *extra, size_t bytes)
{
    uint64_t *const wide[] = {&m->size, &m->packed, &m->place};
    while (bytes >= 4) {
        const size_t length = (size_t)number(extra + 2, 2);
        if (length > bytes - 4) {
            return false;
        }
        if (number(extra, 2) == 1) {
            const unsigned char *at = extra + 4, *end = at + length;
            for (int i = 0; i < 3; i++) {
                if (*wide[i] != UINT32_MAX) {
                    continue;
                }
                if (end - at < 8) {
                    return false;
                }
                *wide[i] = number(at, 8);
                at += 8;
            }
            return true;
        }
        extra += 4 + length;
        bytes -= 4 + length;
    }
    return true; /* without the field the sizes are what they say, and are checked as such */
}

static int by_name(const void *a, const void *b)
{
    const ddi_zip_member *x = a, *y = b;
    const uint32_t common = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    const int order = memcmp(x->name, y->name, common);
    return order ? order : x->name_bytes < y->name_bytes ? -1 : x->name_bytes > y->name_bytes;
}

static dd_status read_directory(ddi_zip *z, const directory *d)
{
    const unsigned char *at = z->bytes + d->place, *end = at + d->size;
    for (uint64_t i = 0; i < d->count; i++) {
        if (end - at < CENTRAL || !is_mark(at, 1, 2)) {
            return damaged(z, "has a directory that ends early");
        }
        const size_t name = (size_t)number(at + 28, 2), extra = (size_t)number(at + 30, 2),
                     comment = (size_t)number(at + 32, 2);
        if ((size_t)(end - at) - CENTRAL < name + extra + comment) {
            return damaged(z, "has a directory that ends early");
        }
        ddi_zip_member *m = &z->member[z->count++];
        *m = (ddi_zip_member){
            .name = (const char *)at + CENTRAL, .name_bytes = (uint32_t)name, .crc = (uint32_t)number(at + 16, 4)};
        m->method = number(at + 8, 2) & 1 ? -1 : (int32_t)number(at + 10, 2); /* the flag: encrypted */
        m->packed = number(at + 20, 4);
        m->size = number(at + 24, 4);
        m->place = number(at + 42, 4);
        z->summed = z->summed || m->crc != 0;
        if (!widen(m, at + CENTRAL + name, extra)) {
            return damaged(z, "has a member without its size");
        }
        at += CENTRAL + name + extra + comment;
    }
    if (z->count) {
        qsort(z->member, (size_t)z->count, sizeof *z->member, by_name);
    }
    for (int32_t i = 1; i < z->count; i++) {
        if (by_name(&z->member[i - 1], &z->member[i]) == 0) {
            return damaged(z, "has two members of one name");
        }
    }
    return DD_OK;
}

dd_status ddi_zip_open(ddi_zip *zip, const char *path, const void *bytes, size_t size)
{
    directory d = {0, 0, 0};
    *zip = (ddi_zip){.path = path, .bytes = bytes, .size = size};
    DDI_TRY(find_directory(zip, &d));
    if (d.count > 2 * DDI_MAX_SAFETENSORS_TENSORS) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s has more than %d members", path, 2 * DDI_MAX_SAFETENSORS_TENSORS);
    }
    if (d.count > d.size / CENTRAL) {
        return damaged(zip, "has fewer members than it says");
    }
    zip->member = ddi_alloc(NULL, (size_t)d.count * sizeof *zip->member);
    if (!zip->member) {
        return ddi_fail_nomem(d.count * sizeof *zip->member, "the directory of an archive");
    }
    ddi_crc_make(&zip->table, DDI_CRC_ZIP);
    const dd_status status = read_directory(zip, &d);
    if (status != DD_OK) {
        ddi_zip_free(zip);
    }
    return status;
}

void ddi_zip_free(ddi_zip *zip)
{
    ddi_free(NULL, zip->member);
    zip->member = NULL;
    zip->count = 0;
}

ddi_zip_member *ddi_zip_find(const ddi_zip *zip, const char *name, size_t bytes)
{
    const ddi_zip_member wanted = {.name = name, .name_bytes = (uint32_t)bytes};
    return zip->count ? bsearch(&wanted, zip->member, (size_t)zip->count, sizeof wanted, by_name) : NULL;
}

static dd_status locate(const ddi_zip *z, const ddi_zip_member *m, size_t *place)
{
    if (m->method != 0 || m->packed != m->size) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s: the member %.*s is %s; torch.save stores its members as they are", z->path,
                        (int)(m->name_bytes < 80 ? m->name_bytes : 80), m->name, m->method < 0 ? "encrypted" : "compressed");
    }
    if (m->place > z->size || z->size - m->place < LOCAL || !is_mark(z->bytes + m->place, 3, 4)) {
        return damaged(z, "has a member without a header");
    }
    const unsigned char *local = z->bytes + m->place;
    const size_t name = (size_t)number(local + 26, 2), rest = z->size - (size_t)m->place - LOCAL;
    const size_t skipped = name + (size_t)number(local + 28, 2);
    if (skipped > rest || m->size > rest - skipped || name != m->name_bytes || memcmp(local + LOCAL, m->name, name) != 0) {
        return damaged(z, "has a member that ends outside of it or has two names");
    }
    *place = (size_t)m->place + LOCAL + skipped;
    return DD_OK;
}

dd_status ddi_zip_take(ddi_zip *zip, ddi_zip_member *member, const void **data)
{
    size_t place = 0;
    if (!member->data) {
        DDI_TRY(locate(zip, member, &place));
        /* Members that overlap could make one byte be summed a hundred thousand times. */
        if (member->size > zip->size - zip->taken) {
            return damaged(zip, "has members that overlap");
        }
        zip->taken += (size_t)member->size;
        if (zip->summed && ddi_crc(&zip->table, zip->bytes + place, (size_t)member->size) != member->crc) {
            return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged: the checksum of its member %.*s is wrong", zip->path,
                            (int)(member->name_bytes < 80 ? member->name_bytes : 80), member->name);
        }
        member->data = zip->bytes + place;
    }
    *data = member->data;
    return DD_OK;
}
