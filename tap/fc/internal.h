/*
 * internal: what the files of tap/fc share, and nobody else includes.
 *
 * A frame comes in by fc.c, is parsed by frame.c and kept for a moment (seen.c) by window.c, which
 * puts frames in the order of their times and marks those that were there before. sequence.c puts
 * together what is longer than a frame. duty.c sorts the frames of FCP into exchanges, kept by
 * exchange.c; settle.c decides when one has ended; stray.c judges frames that belong to none.
 * names.c knows ports, nexus.c who talks to whom; logins.c follows ELS and FIP, which els.c and
 * fip.c parse, and pairs.c which ports must log in to each other before they go on.
 */
#ifndef SANREWIND_TAP_FC_INTERNAL_H
#define SANREWIND_TAP_FC_INTERNAL_H

#include "common/clock.h"
#include "common/rangeset.h"
#include "proto/record.h"
#include "tap/fc/fc.h"
#include "tap/fc/fcp.h"
#include "tap/fc/frame.h"
#include "tap/scsi/tracker.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* How late a frame may come, by its own time. Real captures step back by 25 ms. */
#define WINDOW_NS (40 * NS_PER_MS)
/* How much later one direction may come than the other. */
#define SKEW_NS (50 * NS_PER_MS)
/* How long a mirror may take to show a frame for the second time. */
#define REPEAT_NS (50 * NS_PER_MS)
/*
 * A command without a response for longer is in doubt until it has one: nothing on the wire tells a
 * response that was not mirrored from one that was not sent. Promises wait that long.
 */
#define PATIENCE_NS NS_PER_SECOND
/*
 * Nobody gets from the data of one command to that of the next one with the same identifiers in
 * less: response, command and request lie in between. After a longer hole it may be that one's.
 */
#define TURN_NS (NS_PER_MS / 10)
/* Initiators have long given it up. */
#define FORGET_NS (180 * NS_PER_SECOND)

enum {
    MAX_NEXUSES = 16384,
    MAX_SLOTS = 262144, /* exchange identifiers that are or were in use, about 200 bytes each */
    MAX_TASKS = 131072,
    MAX_KEPT = 1024, /* frames of a command that may be a copy */
    MAX_EARLY = 64,  /* frames that came before their command, for each exchange identifier */
    MAX_DATA_RANGES = 4096,
};

/* seen.c: a frame that was seen, with a copy of its payload */
struct shelves;
struct shelf;
struct seen {
    uint64_t time_ns;
    uint64_t likeness;   /* the same for frames that are copies of each other */
    struct frame frame;  /* payload points behind */
    bool again;          /* an equal one was seen within REPEAT_NS before */
    struct shelf *shelf; /* where it lies; NULL: in memory of its own */
    struct seen *prev, *next;
    uint8_t data[];
};
struct shelves *shelves_create(void);
/* All that lay there is freed before. */
void shelves_destroy(struct shelves *s);
/* For a short time. NULL: no memory. */
struct seen *shelves_put(struct shelves *s, const struct frame *frame, uint64_t time_ns);
void seen_free(struct seen *seen);
/* Takes it, and gives the same one, or a copy, that may stay for long. NULL: no memory. */
struct seen *seen_keep(struct seen *seen);
size_t seen_size(const struct seen *seen);

/* window.c */
struct window;
struct window *window_create(size_t limit_bytes);
void window_destroy(struct window *w);
/* False: no memory for it. */
bool window_add(struct window *w, const struct frame *frame, uint64_t time_ns);
/*
 * The next one in order that is older than `until_ns`, or that there is no more room for; NULL
 * none. The caller frees it.
 */
struct seen *window_next(struct window *w, uint64_t until_ns);
/* Time of the oldest one in it; UINT64_MAX when it is empty. */
uint64_t window_oldest(const struct window *w);

/* sequence.c: information units longer than a frame */
struct sequences;
struct sequences *sequences_create(void);
void sequences_destroy(struct sequences *s);
/*
 * The whole unit that this frame ends: itself, or a new one made of several, to be freed by the
 * caller together with *seen, which is NULL when it was kept or is of no use.
 */
struct seen *sequences_add(struct sequences *s, struct seen *seen);

enum task_kind { TASK_COMMAND, TASK_MANAGEMENT };

/* A response that is not believed yet. */
struct answer {
    struct fcp_response response;
    bool readable;
    uint64_t time_ns;
    uint32_t checksum;
    bool again;     /* an equal one was seen before: it may be a copy of that one */
    bool premature; /* it came before all data: it may be that of an earlier command */
};

/* A command, from FCP_CMND to FCP_RSP and a little longer. */
struct task {
    struct slot *slot; /* NULL once another command has taken its identifier */
    struct fc_nexus *nexus;
    enum task_kind kind;
    uint64_t lun;
    uint8_t management;        /* its flags */
    struct exchange *exchange; /* NULL: nothing about it matters */
    uint64_t issued_ns;
    uint32_t checksum;    /* of its frame */
    uint16_t rx_id;       /* or FC_ID_UNASSIGNED */
    uint16_t maybe_rx_id; /* by a frame that may be a copy */
    uint32_t out_bytes;
    uint32_t in_bytes;
    uint32_t in_end; /* of those that came */
    bool unreadable; /* cut or malformed: it may be a write to any block */
    bool copy;       /* its frame was seen before, and nothing since shows that it is not a copy */
    /* It is most likely a copy: its frames are kept, and count when one comes that is not. */
    bool withheld;
    struct seen *kept;
    size_t kept_count;
    bool doubted;              /* a gap was said over it, because it has no response */
    uint64_t aborted_ns;       /* 0: nobody asked for that */
    uint64_t superseded_ns;    /* when another command took its identifier; 0: none did */
    struct rangeset sure;      /* data-out that came with frames not seen before */
    struct rangeset all;       /* together with what may be copies of earlier frames */
    struct rangeset contested; /* of two that may be copies, and differ: neither counts */
    uint16_t unsure_rx_id;     /* of what may be copies; FC_ID_UNASSIGNED: there is none */
    bool unsure_mixed;         /* there were several */
    uint32_t asked_end;        /* of what FCP_XFER_RDY asked for */
    uint32_t surely_asked_end; /* by frames that were not seen before */
    uint8_t seq_id;            /* of the last data-out */
    uint16_t seq_cnt;
    uint64_t last_ns;     /* when the last frame of it came */
    bool data_cut;        /* some of its data was cut by the capture */
    bool torn;            /* a hole may hide that what came behind it is another command's */
    bool mixed;           /* what came may be of two commands, unless this mirror makes copies */
    uint32_t next_offset; /* of data without relative offset */
    uint64_t early_ns;    /* when frames came that are its own if the target's direction is ahead */
    bool in_again;        /* data-in that may be copies of another command's */
    struct answer *answer;
    struct task *prev, *next;           /* nexus->tasks */
    struct task *open_prev, *open_next; /* fc->open: without an answer, oldest first */
    struct task *wait_prev, *wait_next; /* fc->answered */
};

/* What is remembered of the last command of an exchange identifier that ended. */
struct epitaph {
    uint64_t time_ns; /* 0: there was none */
    uint16_t rx_id;
    uint8_t seq_id;
    uint16_t seq_cnt;
    bool cut_short; /* by the device, which did not want all data */
    bool aborted;   /* as both sides know */
    uint32_t answer_checksum;
};

/* Frames of an exchange whose command was not seen (yet). */
struct strays {
    uint64_t first_ns; /* 0: none */
    uint64_t last_ns;
    bool out;           /* data to the device, or a request for it: a command that writes */
    bool written;       /* such data: no command that comes later can have sent it */
    bool in;            /* data from the device */
    bool answered;      /* a response is among them */
    bool counted;       /* as copies */
    bool fresh;         /* one of them was not seen before */
    struct seen *early; /* those from the target, to be seen again behind the command */
    size_t early_count;
};

/* An exchange identifier of a nexus (FC-FS-5, 14: OX_ID). */
struct slot {
    uint16_t ox_id;
    struct fc_nexus *nexus;
    struct task *now;
    struct task *past; /* the command before, without a response so far */
    struct epitaph epitaph;
    bool recovering; /* REC or SRR was seen: things may come again */
    struct strays strays;
    struct slot *stray_prev, *stray_next; /* fc->stray */
    struct slot *prev, *next;             /* fc->slots, least recently used first */
    UT_hash_handle hh;                    /* nexus->slots */
};

struct nexus_key {
    uint32_t initiator; /* FC_ID */
    uint32_t target;
    uint32_t vsan;
};

struct fc_nexus {
    struct nexus_key key;
    struct fc *fc;
    struct nexus *nexus;
    bool named;      /* by the target's WWPN */
    uint64_t judged; /* pairs_changes() when its frames were last found to need no login */
    struct slot *slots;
    struct task *tasks;
    struct fc_port *from, *to;              /* the ports of key.initiator and key.target */
    struct fc_nexus *from_prev, *from_next; /* from->as_initiator */
    struct fc_nexus *to_prev, *to_next;     /* to->as_target */
    UT_hash_handle hh;
};

struct fc_port_key {
    uint32_t fc_id;
    uint32_t vsan;
};

/* A port that has nexuses: floods of logins would make going through all of them the dearest thing
 * that there is. */
struct fc_port {
    struct fc_port_key key;
    struct fc_nexus *as_initiator;
    struct fc_nexus *as_target;
    UT_hash_handle hh;
};

struct names;
struct logins;
struct pairs;

struct fc {
    struct tracker *tracker;
    struct fc_counters counters;
    struct window *window;
    struct sequences *sequences;
    struct names *names;
    struct logins *logins;
    struct pairs *pairs;
    struct fc_nexus *nexuses;
    struct fc_port *ports;
    struct fc_nexus *last; /* most frames go to the same one */
    struct slot *slots;
    size_t slot_count;
    size_t task_count;
    struct task *open;
    struct task *doubted; /* open ones that a gap was said over, oldest first */
    struct task *answered;
    struct slot *stray;
    bool restarted;
    uint64_t restarted_ns;
    uint64_t newest_ns; /* time of the newest frame */
    uint64_t clock_ns;  /* frames up to here were looked at */
    uint64_t judged_ns; /* when waiting things were last judged */
    uint64_t copies_ns; /* when a frame last turned out to be a copy */
    unsigned copies;    /* how many did, within a while */
    uint64_t skew_ns;   /* when a response last turned out to have come before data */
    unsigned skews;
    bool nvme_said;
};

/* fc.c */
/* A frame turned out to be a copy of another, beyond doubt. */
void fc_copy_proven(struct fc *f, uint64_t time_ns);
/* Does this mirror show frames twice? */
bool fc_makes_copies(const struct fc *f, uint64_t time_ns);
/* A response came before data that it answers: the target's direction is ahead. */
void fc_skew_proven(struct fc *f, uint64_t time_ns);
bool fc_has_skew(const struct fc *f, uint64_t time_ns);

/* names.c: who has which FC_ID */
enum { WWN_TEXT_BYTES = 40, PORT_TEXT_BYTES = 40 };
struct names *names_create(void);
void names_destroy(struct names *n);
/* True when it is news. */
bool names_set(struct names *n, uint16_t vsan, uint32_t fc_id, uint64_t wwpn);
/* The port is gone: whoever has its FC_ID next is another one until it is known. */
void names_forget(struct names *n, uint16_t vsan, uint32_t fc_id);
/* That was done, and nobody has said since who it is. */
bool names_is_forgotten(const struct names *n, uint16_t vsan, uint32_t fc_id);
/* Who has this name, which is one port's in a fabric; 0 unknown. */
uint32_t names_owner(const struct names *n, uint16_t vsan, uint64_t wwpn);
/* The MAC address of the ENode (FC-BB-6) that the port belongs to. */
void names_set_enode(struct names *n, uint16_t vsan, uint32_t fc_id, uint64_t enode);
/* The ports of an ENode, up to `most`; returns how many. */
size_t names_behind(const struct names *n, uint16_t vsan, uint64_t enode, uint32_t *fc_ids,
                    size_t most);
/* By configuration: counts as long as no login was seen, in every VSAN. */
bool names_configure(struct names *n, uint32_t fc_id, uint64_t wwpn);
/* The WWPN; 0 unknown. */
uint64_t names_find(const struct names *n, uint16_t vsan, uint32_t fc_id);
/* "naa.20:00:52:54:00:00:00:0b", or "fcid:1.010203" (the number is the VSAN) with ".2" behind it
 * for the second unknown port of that FC_ID. True: the first. */
bool names_text(const struct names *n, uint16_t vsan, uint32_t fc_id, char text[PORT_TEXT_BYTES]);
/* "20:00:52:54:00:00:00:0b" or 16 digits. */
bool names_parse(const char *text, uint64_t *wwpn);

/* nexus.c */
/* Finds or makes it. NULL: no room. */
struct fc_nexus *nexus_of(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target);
struct fc_nexus *nexus_find(struct fc *f, uint16_t vsan, uint32_t initiator, uint32_t target);
/* Gives up its commands and forgets its exchange identifiers. */
void nexus_clear(struct fc_nexus *n, uint16_t reason, const char *text, uint64_t time_ns);
void nexus_destroy(struct fc_nexus *n, uint16_t reason, const char *text, uint64_t time_ns);
/* Without a word about what is in flight. */
void nexus_discard(struct fc_nexus *n);
/* The port has this name, and no other has it: nexuses of both end when they had another one, and
 * those of this one get it. */
void nexus_name(struct fc *f, uint16_t vsan, uint32_t fc_id, uint64_t wwpn, uint64_t time_ns);
/* All nexuses of the port end. True: it had one. */
bool nexus_leave(struct fc *f, uint16_t vsan, uint32_t fc_id, const char *text, uint64_t time_ns);

/* exchange.c */
struct slot *slot_of(struct fc_nexus *n, uint16_t ox_id);
struct slot *slot_find(struct fc_nexus *n, uint16_t ox_id);
void slot_destroy(struct slot *s);
/* NULL: no memory. */
struct task *task_begin(struct slot *s, enum task_kind kind, const struct seen *seen);
void task_end(struct task *t);
/* Ends it without a response. */
void task_abandon(struct task *t, uint16_t reason, const char *text, uint64_t time_ns);
bool task_is_complete(const struct task *t);
/* Without what may be copies of other commands' data. */
bool task_is_surely_complete(const struct task *t);
void task_answer(struct task *t, struct answer *answer); /* takes it */
struct answer *task_unanswer(struct task *t);            /* gives it */
/* What may be copies were copies: of another command. */
void task_forget_unsure(struct task *t);
/* No response came, or none will: the device may have taken all that was asked for. */
void task_doubt_all(struct task *t);
/* Another command has its identifier now. */
void task_detach(struct task *t);

/* duty.c */
void duty_frame(struct fc *f, struct seen *seen);

/* settle.c */
/* Ends it when it is clear how. */
void settle_try(struct task *t);
/* Ends it with what there is. */
void settle_now(struct task *t);
/* Its identifier belongs to another command from now on. */
void settle_superseded(struct task *t, uint64_t time_ns);
/* The same by a command that itself was not seen. */
void settle_replaced(struct task *t, uint64_t time_ns);
/* Those for which time is up. */
void settle_judge(struct fc *f);
/* The monitor ends. */
void settle_finish(struct fc *f);

/* stray.c */
/* Takes it. */
void stray_add(struct slot *s, struct seen *seen);
/* The same for a frame that is used, or dropped, otherwise; all was right at since_ns. */
void stray_note(struct slot *s, const struct seen *seen, uint64_t since_ns);
/* Something that passed belongs to a command that did not. */
void stray_lost_command(struct fc_nexus *n, uint64_t time_ns);
/* Requests for data and responses that came before the command. The caller frees them. */
struct seen *stray_take_early(struct slot *s);
void stray_judge(struct fc *f, bool all);
void stray_clear(struct slot *s);

/* abort.c: Basic Link Services */
void abort_frame(struct fc *f, const struct seen *seen);

/* logins.c */
struct logins *logins_create(void);
void logins_destroy(struct logins *l);
/* An ELS, or a link service of FCP. */
void logins_frame(struct fc *f, const struct seen *seen);
/* `seen` holds the MAC addresses and then the FIP frame. */
void logins_fip(struct fc *f, const struct seen *seen);
enum { FIP_ADDRESSES = 12 };

/* pairs.c: ports that must log in to each other before the next frame of FCP */
struct pairs *pairs_create(void);
void pairs_destroy(struct pairs *p);
/* Larger after each of what follows: until then, what was judged of a pair holds. */
uint64_t pairs_changes(const struct pairs *p);
/* The frame leaves its ports without a login: PLOGI until it is accepted, LOGO, PRLO. */
void pairs_end_login(struct fc *f, const struct frame *frame, uint64_t time_ns);
/* Both ports are logged in, and the frame or its request said who they are. `early`: if this was
 * the LS_ACC of a PLOGI, that was not seen yet. */
void pairs_confirm(struct fc *f, const struct frame *frame, bool early, uint64_t time_ns);
/* That is the last that was heard of their logins. */
bool pairs_is_due(const struct fc *f, const struct frame *frame);
/* FCP-4, 6.2: PRLI, or its LS_ACC, which need a login that no command was sent in. */
void pairs_process_login(struct fc *f, const struct frame *frame, uint64_t time_ns);
/* A frame of FCP, which is no copy, comes next. False: the question stands with the next one. */
bool pairs_before_frame(struct fc *f, const struct frame *frame, uint32_t initiator,
                        uint32_t target, uint64_t time_ns);

#endif
