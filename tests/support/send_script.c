/*
 * send_script ENDPOINT MONITOR < SCRIPT: a monitor without a wire that says what a script says.
 *
 * One line, one record; each is a millisecond after the one before it, from SIM_START_NS on. Bytes
 * are one value repeated.
 *
 *     path TARGET SIZE [same-as TARGET]     clock NS            (bound of the clock's error)
 *     write TARGET OFFSET LENGTH BYTE       audit TARGET OFFSET BLOCKS BYTE
 *     copy TARGET OFFSET LENGTH FROM-TARGET FROM-OFFSET
 *     or|xor TARGET OFFSET LENGTH BYTE      gap TARGET OFFSET LENGTH
 *     resume TARGET STREAM ORDER            at MILLISECONDS    (of the next line)
 *
 * Ends the stream, and with 0 when everything is acknowledged. Prints the stream's number and how
 * many order marks it used, as `resume` wants them.
 */
#include "../unit/recoveryd/sim.h"
#include "common/blocksum.h"

#include "common/clock.h"
#include "common/crc32c.h"
#include "proto/stamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 6, BATCH_RECORDS = 64, WAIT_MS = 20000, BLOCK = SIM_BLOCK };

struct script {
    struct sim_stream stream;
    uint64_t now_ns;
    uint64_t clock_error_ns;
    char *words[WORDS];
    int count;
    uint8_t *payload; /* 1 MiB */
};

static const char *word(const struct script *s, int i) {
    return i < s->count ? s->words[i] : "";
}

static uint64_t number(const struct script *s, int i) {
    return strtoull(word(s, i), NULL, 0);
}

static uint64_t path_of(const char *target) {
    return record_path_id(PATH_ISCSI, target, strlen(target), 0);
}

static void say_path(struct script *s) {
    const char *target = word(s, 1);
    bool provisional = s->count > 3;
    struct record r = {.type = RECORD_PATH,
                       .order = s->stream.orders++,
                       .path = {.time_ns = s->now_ns,
                                .path = path_of(target),
                                .size_bytes = number(s, 2),
                                .block_bytes = BLOCK,
                                .flags = provisional ? PATH_PROVISIONAL : 0,
                                .protocol = PATH_ISCSI,
                                .target = target,
                                .target_bytes = (uint16_t)strlen(target),
                                .designator = "",
                                .serial = "",
                                .same_as = provisional ? path_of(word(s, 4)) : 0}};
    sim_add(&s->stream, &r);
}

static void say_update(struct script *s, uint8_t op) {
    struct record r = {.type = RECORD_UPDATE,
                       .order = s->stream.orders++,
                       .update = {.time_ns = s->now_ns,
                                  .issued_ns = s->now_ns - 1000,
                                  .path = path_of(word(s, 1)),
                                  .offset_bytes = number(s, 2),
                                  .length_bytes = number(s, 3),
                                  .block_bytes = BLOCK,
                                  .op = op}};
    if (op == UPDATE_COPY) {
        r.update.source_path = path_of(word(s, 4));
        r.update.source_offset_bytes = number(s, 5);
        r.update.source_from_ns = s->now_ns - 1000;
        r.update.source_until_ns = s->now_ns;
        sim_add(&s->stream, &r);
        return;
    }
    uint32_t bytes = (uint32_t)r.update.length_bytes;
    memset(s->payload, (int)number(s, 4), bytes);
    r.update.payload_bytes = bytes;
    r.update.payload_crc32c = crc32c(0, s->payload, bytes);
    sim_add(&s->stream, &r);
    struct record p = {.type = RECORD_PAYLOAD,
                       .order = r.order,
                       .payload = {bytes, r.update.payload_crc32c, s->payload}};
    sim_add(&s->stream, &p);
}

static void say_gap(struct script *s) {
    struct record r = {.type = RECORD_GAP,
                       .order = s->stream.orders++,
                       .gap = {.time_ns = s->now_ns,
                               .path = path_of(word(s, 1)),
                               .offset_bytes = number(s, 2),
                               .length_bytes = number(s, 3),
                               .reason = GAP_UNKNOWN_CONTENT,
                               .text = "a script",
                               .text_bytes = 8}};
    sim_add(&s->stream, &r);
}

static void say_audit(struct script *s) {
    uint8_t crcs[4 * AUDIT_BLOCKS];
    uint32_t blocks = (uint32_t)number(s, 3);
    memset(s->payload, (int)number(s, 4), BLOCK);
    uint32_t crc = blocksum(s->payload, BLOCK);
    for (uint32_t i = 0; i < blocks * 4 && i < sizeof crcs; i++)
        crcs[i] = (uint8_t)(crc >> (8 * (i % 4)));
    struct record r = {.type = RECORD_AUDIT,
                       .order = s->stream.orders++,
                       .audit = {.time_ns = s->now_ns,
                                 .issued_ns = s->now_ns - 1000,
                                 .path = path_of(word(s, 1)),
                                 .offset_bytes = number(s, 2),
                                 .block_bytes = BLOCK,
                                 .blocks = (uint16_t)blocks,
                                 .kind = AUDIT_BLOCKSUM,
                                 .sums = crcs}};
    sim_add(&s->stream, &r);
}

static void say_resume(struct script *s) {
    struct record r = {.type = RECORD_RESUME,
                       .order = s->stream.orders++,
                       .resume = {.time_ns = s->now_ns,
                                  .path = path_of(word(s, 1)),
                                  .stream = number(s, 2),
                                  .order = number(s, 3)}};
    sim_add(&s->stream, &r);
}

static void say_end(struct script *s) {
    struct record r = {.type = RECORD_FRONTIER,
                       .order = s->stream.orders++,
                       .frontier = {.time_ns = s->now_ns,
                                    .wall_ns = s->now_ns,
                                    .clock_error_ns = s->clock_error_ns,
                                    .flags = FRONTIER_END}};
    sim_add(&s->stream, &r);
}

/* False: no such record. */
static bool say(struct script *s) {
    static const struct {
        const char *name;
        uint8_t op;
    } updates[] = {
        {"write", UPDATE_WRITE}, {"copy", UPDATE_COPY}, {"or", UPDATE_OR}, {"xor", UPDATE_XOR}};
    s->now_ns += NS_PER_MS;
    for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++) {
        if (strcmp(word(s, 0), updates[i].name) == 0) {
            say_update(s, updates[i].op);
            return true;
        }
    }
    if (strcmp(word(s, 0), "path") == 0)
        say_path(s);
    else if (strcmp(word(s, 0), "gap") == 0)
        say_gap(s);
    else if (strcmp(word(s, 0), "audit") == 0)
        say_audit(s);
    else if (strcmp(word(s, 0), "resume") == 0)
        say_resume(s);
    else if (strcmp(word(s, 0), "clock") == 0)
        s->clock_error_ns = number(s, 1);
    else if (strcmp(word(s, 0), "at") == 0)
        s->now_ns = SIM_START_NS + (number(s, 1) - 1) * NS_PER_MS;
    else
        return false;
    return true;
}

static bool read_script(struct script *s) {
    char line[1024];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *rest = NULL;
        s->count = 0;
        for (char *w = strtok_r(line, " \n", &rest); w != NULL && s->count < WORDS;
             w = strtok_r(NULL, " \n", &rest))
            s->words[s->count++] = w;
        if (s->count > 0 && !say(s)) {
            fprintf(stderr, "send_script: what is '%s'?\n", s->words[0]);
            return false;
        }
    }
    s->now_ns += NS_PER_MS;
    say_end(s);
    return true;
}

static bool deliver(const char *endpoint, const struct sim_stream *stream) {
    struct message_welcome welcome;
    struct rangeset durable;
    size_t index[BATCH_RECORDS];
    struct sim_lane *lane = sim_connect(endpoint);
    rangeset_init(&durable, 100000);
    sim_hello(lane, stream);
    bool all = sim_await_welcome(lane, &welcome);
    for (size_t i = 0; all && i < stream->count; i += BATCH_RECORDS) {
        AUTO_BUFFER frame;
        size_t count = 0;
        for (; count < BATCH_RECORDS && i + count < stream->count; count++)
            index[count] = i + count;
        sim_batch(stream, index, count, &frame);
        sim_send(lane, &frame);
    }
    all = all && sim_await_durable(lane, stream, &durable, WAIT_MS);
    rangeset_release(&durable);
    sim_disconnect(lane);
    return all;
}

int main(int argc, char **argv) {
    struct script s = {.now_ns = SIM_START_NS - NS_PER_MS, .payload = malloc(1 << 20)};
    if (argc != 3 || s.payload == NULL) {
        fprintf(stderr, "usage: send_script ENDPOINT MONITOR < SCRIPT\n");
        return 2;
    }
    snprintf(s.stream.name, sizeof s.stream.name, "%s", argv[2]);
    s.stream.monitor = stamp_monitor_id(argv[2]);
    s.stream.stream = clock_wall_ns();
    bool all = read_script(&s) && deliver(argv[1], &s.stream);
    printf("%" PRIu64 " %" PRIu64 "\n", s.stream.stream, s.stream.orders);
    sim_stream_release(&s.stream);
    free(s.payload);
    if (!all)
        fprintf(stderr, "send_script: not everything was acknowledged\n");
    return all ? 0 : 1;
}
