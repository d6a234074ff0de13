/* SPDX-License-Identifier: Apache-2.0
 * Folders in which a module of the tests lies under the name that the library looks for. */
#ifndef TESTS_FAULT_MODULE_FOLDER_H
#define TESTS_FAULT_MODULE_FOLDER_H

/* A new folder where the built module `file` is libdetrdistill-KIND.so; file = NULL: a file that is no library. The path lives
 * until the next call. */
const char *module_folder(const char *file, const char *kind);
void module_folder_remove(const char *folder, const char *kind);

#endif
