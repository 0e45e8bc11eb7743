/*
 * version: of the programs. Formats and protocols carry versions of their own.
 */
#ifndef SANREWIND_COMMON_VERSION_H
#define SANREWIND_COMMON_VERSION_H

#define SANREWIND_VERSION "0.1.0"

#endif
