/*
 * index_upgrade: an index of an older version, brought up to date. Internal to the index.
 */
#ifndef SANREWIND_RECOVERYD_INDEX_UPGRADE_H
#define SANREWIND_RECOVERYD_INDEX_UPGRADE_H

#include "recoveryd/index/index_internal.h"

/*
 * From an older version. All tables are open, those that it has not are empty: a crash between
 * making them and this leaves an index of that version with tables that it does not know. One
 * transaction, in which the version is written last.
 */
int index_upgrade(struct kv *kv, uint32_t version, uint64_t store_id, struct error *err);

#endif
