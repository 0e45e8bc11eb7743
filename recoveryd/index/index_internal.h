/*
 * index_internal: what the files of the index share.
 */
#ifndef SANREWIND_RECOVERYD_INDEX_INTERNAL_H
#define SANREWIND_RECOVERYD_INDEX_INTERNAL_H

#include "recoveryd/index/index.h"
#include "recoveryd/index/kv.h"

struct index {
    struct kv *kv;
};

struct index_reader {
    struct kv_txn *txn;
};

#endif
