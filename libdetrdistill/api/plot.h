/* SPDX-License-Identifier: Apache-2.0
 * The option table of plots, for dd_options_help. */
#ifndef DDI_API_PLOT_H
#define DDI_API_PLOT_H

#include "base/options.h"

extern const ddi_option_table ddi_plot_options;

#endif
