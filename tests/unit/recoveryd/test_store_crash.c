/*
 * A process that writes into a store is killed at random moments: what it had said to be durable is
 * there and reads back right, and what it had not may be there, but then reads back right too.
 */
#include "recoveryd/index/piece_walk.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

#include <signal.h>
#include <sys/wait.h>

enum { KILLS = 12, PATH_NUMBER = 5, CHUNKS = 4, PAYLOAD = 2048 };

static void fill_payload(uint64_t number, uint8_t data[PAYLOAD]) {
    for (size_t i = 0; i < PAYLOAD; i++)
        data[i] = (uint8_t)(number * 31 + i);
}

/* Appends, syncs, commits and says so, until it is killed. */
static void write_for_ever(struct rig *rig, uint64_t next, unsigned seed, int say) {
    uint8_t data[PAYLOAD];
    rig_open(rig);
    segments_set_limit(rig->store->segments, 200000);
    for (;;) {
        int batch = 1 + rand_r(&seed) % 50;
        for (int i = 0; i < batch; i++, next++) {
            uint64_t offset = next * 512 % (CHUNKS * INDEX_CHUNK_BYTES - PAYLOAD);
            fill_payload(next, data);
            rig_put(rig, PATH_NUMBER, &(struct stamp){next + 1, 1, 1, next}, offset, PAYLOAD, data,
                    PAYLOAD);
        }
        rig_commit(rig);
        if (write(say, &next, sizeof next) != (ssize_t)sizeof next)
            _exit(1);
    }
}

struct check {
    struct rig *rig;
    uint64_t pieces;
};

static bool check_piece(void *context, const struct piece *p) {
    struct check *check = context;
    uint8_t back[PAYLOAD];
    uint8_t expected[PAYLOAD];
    rig_ok(check->rig, segments_read(check->rig->store->segments, &p->extent, 0, back, PAYLOAD,
                                     &check->rig->err));
    fill_payload(p->stamp.order, expected);
    cr_assert_eq(memcmp(back, expected, PAYLOAD), 0, "update %lu", p->stamp.order);
    cr_assert_eq(crc32c(0, back, PAYLOAD), p->payload_crc32c);
    check->pieces += p->offset_bytes == p->whole_offset;
    return true;
}

/* Everything that is in the store reads back; returns how many updates that is. */
static uint64_t check_store(struct rig *rig) {
    struct check check = {.rig = rig};
    uint64_t updates;
    rig_open(rig);
    AUTO(index_reader) r = rig_reader(rig);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
        rig_ok(rig,
               index_each_piece(r, PATH_NUMBER, chunk, UINT64_MAX, check_piece, &check, &rig->err));
    rig_ok(rig, index_count_updates(r, PATH_NUMBER, UINT64_MAX, &updates, &rig->err));
    cr_assert_eq(updates, check.pieces, "the tallies agree with the pieces");
    index_reader_close(take_pointer(&r));
    rig_close(rig);
    return updates;
}

Test(store_crash, nothing_that_was_durable_is_lost_by_a_kill, .timeout = 50) {
    struct rig rig;
    unsigned seed = test_seed();
    rig_make_dir(&rig);
    uint64_t durable = 0;
    for (int kills = 0; kills < KILLS; kills++) {
        int pipes[2];
        cr_assert_eq(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0)
            write_for_ever(&rig, durable, (unsigned)rand_r(&seed) + (unsigned)kills, pipes[1]);
        close(pipes[1]);
        int commits = rand_r(&seed) % 20;
        uint64_t said = durable;
        for (int i = 0; i < commits; i++)
            cr_assert_eq(read(pipes[0], &said, sizeof said), (ssize_t)sizeof said);
        /* Somewhere between this commit and the next ones. */
        for (volatile int spin = rand_r(&seed) % 3000000; spin > 0; spin--) {
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipes[0], &said, sizeof said) == (ssize_t)sizeof said) {
        }
        close(pipes[0]);
        durable = check_store(&rig);
        cr_assert_geq(durable, said);
    }
    rig_remove_dir(&rig);
}
